"""Batch: memory for one batch, used again and again."""

from __future__ import annotations

import math

import numpy as np

from poseidon_caffe.backend.memory import empty_array, view_of
from poseidon_caffe.types import Array, Shape

__all__ = ["Batch"]


class Batch:
    """Images and labels of one batch, float32.

    Args:
        size: number of records.
        channels_last: how the images lie in memory; see `view_of`.

    Attributes:
        data: (N, C, h, w), once `shape_data` was called.
        label: (N,).
    """

    def __init__(self, size: int, *, channels_last: bool = False) -> None:
        self._channels_last = channels_last
        self._raw = empty_array(0)
        self.data: Array = self._raw
        self.label: Array = np.zeros(size, np.float32)

    def shape_data(self, shape: Shape) -> None:
        """Give every image the shape (C, h, w); memory only grows."""
        whole = (self.label.size, *shape)
        if self.data.shape == whole:
            return
        if self._raw.size < math.prod(whole):
            self._raw = empty_array(math.prod(whole))
        self.data = view_of(self._raw, whole, channels_last=self._channels_last)
