"""Blocks that weigh every value of the map, across channels and space, cost O(C H W)."""
