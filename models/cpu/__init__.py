"""Compiled kernels and allocator settings that make short windows fast on a CPU."""
