"""Blocks that attend from every pixel to every pixel, quadratic in H W."""
