"""Where a window is cut from an image, and where it lands in the crop."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from poseidon_caffe.data.window_file import Box
from poseidon_caffe.errors import DataError

__all__ = ["WindowCrop", "crop_window"]


@dataclass(frozen=True)
class WindowCrop:
    """A cut and its place; all in pixels.

    Attributes:
        rows, columns: what is cut from the image.
        height, width: the size it is warped to.
        top, left: where that lies in the crop; all around it stays 0.
    """

    rows: slice
    columns: slice
    height: int
    width: int
    top: int = 0
    left: int = 0


@dataclass(frozen=True)
class _Span:
    """One axis: the cut from first to last, warped to ``size``, padding around."""

    first: int
    last: int
    size: int
    before: int
    after: int


def crop_window(
    box: Box,
    height: int,
    width: int,
    crop_size: int,
    *,
    context_pad: int = 0,
    square: bool = False,
    mirror: bool = False,
) -> WindowCrop:
    """The cut of a window.

    Args:
        box: the window.
        height: of the image.
        width: of the image.
        crop_size: side of the result.
        context_pad: pixels of surroundings on each side of the result.
        square: widen the window to a square instead of distorting it.
        mirror: the result will be flipped, so the padding is too.

    Caffe parity: every rounding, in float32.

    Raises:
        DataError: nothing of the window lies in the image.
    """
    if context_pad <= 0 and not square:
        cut = (slice(box.y1, box.y2 + 1), slice(box.x1, box.x2 + 1))
        inside = 0 <= box.y1 <= box.y2 < height and 0 <= box.x1 <= box.x2 < width
        if not inside:
            raise _outside(box, height, width)
        return WindowCrop(*cut, crop_size, crop_size)
    scale = np.float32(crop_size) / np.float32(crop_size - 2 * context_pad)
    half_height = _half(box.y1, box.y2)
    half_width = _half(box.x1, box.x2)
    middle_x = np.float32(box.x1) + half_width
    middle_y = np.float32(box.y1) + half_height
    if square:
        half_height = half_width = max(half_height, half_width)
    down = _span(middle_y, half_height * scale, height, crop_size)
    across = _span(middle_x, half_width * scale, width, crop_size)
    top, left = down.before, across.after if mirror else across.before
    crop = WindowCrop(
        slice(down.first, down.last + 1),
        slice(across.first, across.last + 1),
        # Rounding may have made it a pixel too large.
        min(down.size, crop_size - top),
        min(across.size, crop_size - left),
        top,
        left,
    )
    empty = down.first > down.last or across.first > across.last
    if empty or min(crop.height, crop.width) < 1:
        raise _outside(box, height, width)
    return crop


def _half(first: int, last: int) -> np.float32:
    return np.float32((last - first + 1) / 2)


def _span(middle: np.float32, reach: np.float32, length: int, crop: int) -> _Span:
    """One axis of an image of ``length``, widened and clipped."""
    first, last = _round(middle - reach), _round(middle + reach)
    if first > last:  # the corners are the wrong way round
        return _Span(first, last, 0, 0, 0)
    before, after = max(0, -first), max(0, last - length + 1)
    scale = np.float32(crop) / np.float32(last - first + 1)
    first, last = first + before, last - after
    return _Span(
        first,
        last,
        _round(np.float32(last - first + 1) * scale),
        _round(np.float32(before) * scale),
        _round(np.float32(after) * scale),
    )


def _round(value: np.float32) -> int:
    """C's ``round``: halves away from zero."""
    size = math.floor(abs(float(value)) + 0.5)
    return size if value >= 0 else -size


def _outside(box: Box, height: int, width: int) -> DataError:
    return DataError(
        f"window x1 {box.x1} y1 {box.y1} x2 {box.x2} y2 {box.y2} cannot be cut from "
        f"an image of {height}x{width} (height, width); correct the window file"
    )
