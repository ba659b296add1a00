"""Bilinear enlargement and reduction of 8-bit images, as OpenCV's INTER_LINEAR.

Pixel centres lie at half integers, and there is no smoothing when an image
shrinks.  Weights are 11-bit fixed point, so results agree with OpenCV's to a
level.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from poseidon_caffe.errors import DataError
from poseidon_caffe.types import Array

__all__ = ["resize"]

_BITS = 11
_ONE = 1 << _BITS
_Ints = npt.NDArray[np.int32]


def resize(image: Array, height: int, width: int) -> Array:
    """``image`` (C, H, W) uint8 as a new array (C, height, width).

    Raises:
        DataError: a size that is not positive.
    """
    if height <= 0 or width <= 0 or 0 in image.shape:
        raise DataError(
            f"an image of shape {image.shape} cannot be resized to {height}x{width}"
        )
    if image.shape[1:] == (height, width):
        return np.ascontiguousarray(image)
    top, bottom, down = _places(image.shape[1], height)
    left, right, across = _places(image.shape[2], width)
    used, rows = np.unique(np.concatenate([top, bottom]), return_inverse=True)
    # Columns first, on the rows that are needed only: int32 at 11 bits.
    source = image[:, used]
    wide: Array = source[:, :, left] * (_ONE - across) + source[:, :, right] * across
    wide >>= 4
    above: Array = wide[:, rows[:height]]
    below: Array = wide[:, rows[height:]]
    weight = down[:, np.newaxis]
    above *= _ONE - weight
    above >>= 16
    below *= weight
    below >>= 16
    above += below
    above += 2
    above >>= 2
    return above.astype(np.uint8)


def _places(size: int, wanted: int) -> tuple[_Ints, _Ints, _Ints]:
    """For each output pixel two source pixels and the weight of the second."""
    # Doubles, then float32, is the precision OpenCV computes places in.
    scale = 1.0 / (wanted / size)
    place = ((np.arange(wanted) + 0.5) * scale - 0.5).astype(np.float32)
    first = np.floor(place)
    weight = np.rint((place - first) * _ONE).astype(np.int32)
    index = first.astype(np.int32)
    return (
        np.clip(index, 0, size - 1),
        np.clip(index + 1, 0, size - 1),
        weight,
    )
