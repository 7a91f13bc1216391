"""Blocks that attend inside patches or windows of the map."""
