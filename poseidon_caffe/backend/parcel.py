"""Parcel: a batch of records in one piece of memory, on its way to a device."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from poseidon_caffe.types import Array, Shape

__all__ = ["PLACE_ROW", "Parcel", "PixelRule", "head_bytes", "labels_in", "places_in"]

_ALIGN_BYTES = 256

PLACE_ROW = 3
"""Numbers that say which part of an image is kept: first row, column, mirrored."""


@dataclass(frozen=True)
class PixelRule:
    """What becomes of a pixel: ``(pixel - mean) * scale``, each step in float32.

    Attributes:
        mean: float32 (C, H, W), taken off at the pixel's place in the whole image; or
            None.
        mean_values: one number, or one per channel, or ().
        scale: factor.
    """

    mean: Array | None = None
    mean_values: tuple[float, ...] = ()
    scale: float = 1.0


@dataclass(frozen=True)
class Parcel:
    """How the batch lies in its memory: labels, places of the crops, images.

    Attributes:
        size: records.
        shape: (C, H, W) of an image as it lies there; any if it is transformed and not
            channels-last.
        target: (C, h, w) of what becomes of it.
        dtype: of the images: uint8 or float32; float64 too if they are transformed.
        transformed: nothing is to be done but to copy; shape is target.
        channels_last: images lie (H, W, C).
        backwards: channels lie last to first.
    """

    size: int
    shape: Shape
    target: Shape
    dtype: np.dtype
    transformed: bool = False
    channels_last: bool = False
    backwards: bool = False

    @property
    def nbytes(self) -> int:
        """Bytes of all."""
        return head_bytes(self.size) + self.image_bytes

    @property
    def image_bytes(self) -> int:
        """Bytes of the images."""
        return self.size * math.prod(self.shape) * self.dtype.itemsize

    def raw_images(self, memory: Array) -> Array:
        """The images, flat, in the order of memory; of any kind of array."""
        start = head_bytes(self.size)
        return memory[start : start + self.image_bytes].view(self.dtype)

    def images(self, memory: Array) -> Array:
        """The images (N, C, H, W) with their channels first to last."""
        raw = self.raw_images(memory)
        if not self.channels_last:
            return raw.reshape((self.size, *self.shape))
        channels, height, width = self.shape
        seen = raw.reshape((self.size, height, width, channels))
        if self.backwards:
            seen = seen[:, :, :, ::-1]
        return seen.transpose((0, 3, 1, 2))


def _aligned(nbytes: int) -> int:
    return -(-nbytes // _ALIGN_BYTES) * _ALIGN_BYTES


def head_bytes(size: int) -> int:
    """Bytes in front of the images of ``size`` records."""
    return _aligned(4 * size) + _aligned(4 * PLACE_ROW * size)


def labels_in(memory: Array, size: int) -> Array:
    """The labels, float32 (N,)."""
    return memory[: 4 * size].view(np.float32)


def places_in(memory: Array, size: int) -> Array:
    """The places, int32 (N, `PLACE_ROW`)."""
    start = _aligned(4 * size)
    rows = memory[start : start + 4 * PLACE_ROW * size].view(np.int32)
    return rows.reshape((size, PLACE_ROW))
