"""CUDA C++ sources: one family of kernels a file, compiled at first use."""
