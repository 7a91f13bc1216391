"""Blocks that weigh channels by a pooled vector: y = x * g(x), cost O(C H W)."""
