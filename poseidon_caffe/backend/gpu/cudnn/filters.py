"""Weights as cuDNN wants them: in the activations' dtype and order of axes."""

from __future__ import annotations

import math

import numpy as np

from poseidon_caffe.backend.gpu.cudnn.device import CudnnDevice
from poseidon_caffe.backend.gpu.cudnn.layout import address_of
from poseidon_caffe.types import Array, Shape

__all__ = ["Filters", "lies_alike"]

# What the fastest kernels want of every operand.
_ALIGNED = 16


def lies_alike(shape: Shape) -> bool:
    """Whether dense weights (K, C, *kernel) lie the same plain and channels-last."""
    return shape[1] == 1 or math.prod(shape[2:]) == 1


class Filters:
    """One convolution's weights and their gradient in one dtype and order.

    Parameters stay plain float32 (float64 beside float64 activations).  Where that
    is what cuDNN wants, their own memory is used.

    Args:
        device: where.
        shape: (K, C / group, *kernel).
        dtype: that is wanted.
        channels_last: whether the order (K, *kernel, C / group) is wanted.
    """

    def __init__(
        self,
        device: CudnnDevice,
        shape: Shape,
        dtype: np.dtype,
        *,
        channels_last: bool,
    ) -> None:
        self._device, self._shape, self._dtype = device, shape, dtype
        self._last = channels_last
        self._reordered = channels_last and not lies_alike(shape)
        self._packed: Array | None = None
        self._gradient: Array | None = None
        self._key: object = None

    def is_direct(self, w: Array) -> bool:
        """Whether ``w`` needs no copy."""
        return (
            w.dtype == self._dtype
            and not self._reordered
            and w.flags.c_contiguous
            and not address_of(w) % _ALIGNED
        )

    def values(self, w: Array, key: object) -> int:
        """Address of the weights; a copy is refreshed when ``key`` changes.

        Args:
            w: the weights.
            key: equal for equal values in equal circumstances; None where nobody knows.
        """
        if self.is_direct(w):
            return address_of(w)
        if self._packed is None:
            self._packed = self._empty()
        if key is None or key != self._key:
            self._device.cast(w, self._packed)
            self._key = key
        return address_of(self._packed)

    def gradient(self) -> Array:
        """Where a gradient is put before it is added to the parameter's."""
        # Kept for good: a recorded CUDA graph knows its address.
        if self._gradient is None:
            self._gradient = self._empty()
        return self._gradient

    def _empty(self) -> Array:
        return self._device.empty(self._shape, self._dtype, channels_last=self._last)
