"""Blocks that choose or make convolution kernels from the input, linear in H W."""
