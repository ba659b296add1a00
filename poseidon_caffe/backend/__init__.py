"""Backends: blobs and the kernels that compute with them."""
