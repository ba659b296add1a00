"""A stand-in for CUDA: the GPU backend's sources, compiled by g++ and run by tests."""
