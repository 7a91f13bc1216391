"""Blocks in which every pixel sees the whole map at a cost linear in its size, O(H W)."""
