"""Bilinear enlargement and reduction of 8-bit images: OpenCV's INTER_LINEAR, exactly.

Pixel centres lie at half integers, and there is no smoothing when an image
shrinks.  Weights are 11-bit fixed point and are rounded where OpenCV rounds, so
that every value is the one Caffe would have seen.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from poseidon_caffe.errors import DataError
from poseidon_caffe.types import Array

__all__ = ["resize"]

_ONE = 1 << 11
# Rows of the result that are computed together: their sums stay in the cache.
_BLOCK = 64
_Ints = npt.NDArray[np.int32]
_Indices = npt.NDArray[np.intp]


def resize(image: Array, height: int, width: int) -> Array:
    """``image`` (C, H, W) uint8 as a new array (C, height, width).

    The result lies in memory as the image does: by pixel (as decoders give it, in
    either order of the channels) or by channel.

    Caffe parity: bit for bit ``cv::resize`` with INTER_LINEAR.

    Raises:
        DataError: a size that is not positive.
    """
    if height <= 0 or width <= 0 or 0 in image.shape:
        raise DataError(
            f"an image of shape {image.shape} cannot be resized to {height}x{width}"
        )
    if image.shape[1:] == (height, width):
        return np.ascontiguousarray(image)
    if image.strides[0] < 0:  # blue, green, red is a view of what was decoded
        return resize(image[::-1], height, width)[::-1]
    channels = image.shape[0]
    if channels > 1 and image.strides[2] >= channels:
        return _by_pixel(image, height, width)
    out = np.empty((channels, height, width), np.uint8)
    for plane, place in zip(image, out, strict=True):
        _blend(plane, 1, place)
    return out


def _by_pixel(image: Array, height: int, width: int) -> Array:
    channels = image.shape[0]
    pixels = np.ascontiguousarray(image.transpose(1, 2, 0))
    out = np.empty((height, width, channels), np.uint8)
    rows = pixels.reshape(len(pixels), -1)
    _blend(rows, channels, out.reshape(height, -1))
    return out.transpose(2, 0, 1)


class _Places(NamedTuple):
    """For each output pixel two source pixels and their weights, in 1/2048: (2, n)."""

    source: _Indices
    weight: _Ints


# Most sources ask for the same sizes again and again.
@functools.lru_cache(maxsize=64)
def _places(size: int, wanted: int, channels: int = 1) -> _Places:
    """Of pixels, or of their values in rows of several values each."""
    # Doubles, then float32, is the precision OpenCV computes places in.
    scale = 1.0 / (wanted / size)
    place = ((np.arange(wanted) + 0.5) * scale - 0.5).astype(np.float32)
    floor = np.floor(place)
    second = place - floor
    weight = np.rint(np.stack([np.float32(1) - second, second]) * np.float32(_ONE))
    source = np.stack([floor, floor + 1]).astype(np.intp).clip(0, size - 1)
    if channels > 1:
        source = source[..., np.newaxis] * channels + np.arange(channels)
        weight = np.repeat(weight, channels, axis=1)
    return _Places(source.reshape(2, -1), weight.astype(np.int32))


def _blend(rows: Array, channels: int, out: Array) -> None:
    """``out`` (height, width * channels) from ``rows`` (H, W * channels)."""
    down = _places(len(rows), len(out))
    sizes = rows.shape[1] // channels, out.shape[1] // channels
    across = _places(*sizes, channels)
    # Rows that two results share are widened once; far apart, none are.
    share = len(rows) < 2 * len(out)
    for start in range(0, len(out), _BLOCK):
        part = slice(start, start + _BLOCK)
        index = down.source[:, part]
        if share:
            first = int(index[0, 0])
            wide = _widened(rows[first : int(index[1, -1]) + 1], across)
            both = wide[index - first]
        else:
            both = _widened(rows[index.reshape(-1)], across).reshape(*index.shape, -1)
        both *= down.weight[:, part, np.newaxis]
        both >>= 16
        total = both[0]
        total += both[1]
        total += 2
        total >>= 2
        out[part] = total


def _widened(rows: Array, across: _Places) -> _Ints:
    """Rows blended left to right, in 1/128 levels; few calls, for the threads' sake."""
    pairs = np.take(rows, across.source.reshape(-1), axis=1)
    parts: _Ints = np.multiply(pairs, across.weight.reshape(-1), dtype=np.int32)
    width = across.source.shape[1]
    wide = parts[:, :width]
    wide += parts[:, width:]
    wide >>= 4
    return wide
