"""Arrays as kernels take them: in C order, and parameters in a type of their own."""

from __future__ import annotations

import numpy as np

from poseidon_caffe.backend.gpu.base import GpuFamily
from poseidon_caffe.types import Array

__all__ = ["GpuParams", "param_dtype"]


def param_dtype(dtype: np.dtype) -> np.dtype:
    """The type of parameters beside activations of this type: P of the kernels."""
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)


class GpuParams(GpuFamily):
    """Base of the families that read arrays in C order, whatever they are given."""

    def plain(self, array: Array, name: str, dtype: np.dtype | None = None) -> Array:
        """The array itself if it is in C order, else a copy in scratch memory.

        Args:
            array: to read from.
            name: tells one scratch memory from another, where several are needed.
            dtype: of the result; None: the array's own.
        """
        wanted = array.dtype if dtype is None else dtype
        if array.dtype == wanted and array.flags.c_contiguous:
            return array
        copy = self.scratch.take(f"plain {name}", array.shape, wanted)
        self.copy(array, copy)
        return copy

    def plain_params(
        self, values: Array, dtype: np.dtype, name: str = "labels"
    ) -> Array:
        """Parameters or labels beside activations of ``dtype``: C order, as P.

        Those that are activations themselves may be stored in fewer bits: then a copy.
        """
        return self.plain(values, name, param_dtype(dtype))
