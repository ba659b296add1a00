"""Interpolation between the pixels of an image (H, W, K), as Caffe's helpers had it.

`warp` is scikit-image's of before version 0.15, `zoom` is SciPy's: they place pixels
differently, and disagree about what lies beyond the border.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from poseidon_caffe.errors import PoseidonError
from poseidon_caffe.types import Array

__all__ = ["spline", "warp", "zoom"]

_NEAREST: Final = 0
_CUBIC: Final = 3


def warp(image: Array, size: tuple[int, int], order: int) -> Array:
    """Resize by half-integer pixel centres, with zeros beyond the border.

    Args:
        image: float64 (H, W, K) in [0, 1].
        size: new height and width.
        order: 0, 1, or 3 (Catmull-Rom's cubic, clipped to [0, 1]).

    Returns:
        float64 (height, width, K).
    """
    out = image
    for axis in (0, 1):
        place = _centres(image.shape[axis], size[axis])
        out = _along(out, axis, place, order)
    if order == _CUBIC:
        out = np.clip(out, 0.0, 1.0)
    return out


def zoom(image: Array, size: tuple[int, int], order: int) -> Array:
    """Resize so that corners keep their values.

    Args:
        image: (H, W, K), any numbers.
        size: new height and width.
        order: 0, 1, or with SciPy up to 5.

    Returns:
        (height, width, K); integers are rounded.

    Raises:
        PoseidonError: SciPy is needed and not installed.
    """
    places = [_corners(image.shape[axis], size[axis]) for axis in (0, 1)]
    values = image.astype(np.float64)
    if order > 1:
        out = _by_scipy(values, places, order)
    else:
        out = _along(_along(values, 0, places[0], order), 1, places[1], order)
    if image.dtype.kind in "iu":
        out = np.floor(out + 0.5)
    return out


def spline(image: Array, size: tuple[int, int], order: int) -> Array:
    """`warp` for orders 2, 4 and 5: splines by SciPy.

    Raises:
        PoseidonError: SciPy is not installed.
    """
    places = [_centres(image.shape[axis], size[axis]) for axis in (0, 1)]
    return np.clip(_by_scipy(image, places, order), 0.0, 1.0)


def _centres(old: int, new: int) -> Array:
    return (np.arange(new) + 0.5) * (old / new) - 0.5


def _corners(old: int, new: int) -> Array:
    scale = (old - 1) / (new - 1) if new > 1 else 1.0
    # Rounding must not carry the last place beyond the border.
    places: Array = np.minimum(np.arange(new) * scale, old - 1.0)
    return places


def _along(image: Array, axis: int, place: Array, order: int) -> Array:
    """Interpolate one axis at ``place``, zeros standing beyond the border."""
    if order == _NEAREST:
        # Halves go away from zero, as in C.
        first = np.trunc(place + np.copysign(0.5, place)).astype(np.int64)
        taps = [(first, np.ones_like(place))]
    else:
        first = np.floor(place).astype(np.int64)
        weights = _cubic(place - first) if order == _CUBIC else _linear(place - first)
        taps = [(first + offset, weight) for offset, weight in weights]
    size = image.shape[axis]
    shape = [1, 1, 1]
    shape[axis] = len(place)
    total: Any = 0.0
    for index, weight in taps:
        inside = (index >= 0) & (index < size)
        pixels = np.take(image, np.clip(index, 0, size - 1), axis=axis)
        total = total + pixels * np.where(inside, weight, 0.0).reshape(shape)
    result: Array = total
    return result


def _linear(x: Array) -> list[tuple[int, Array]]:
    return [(0, 1.0 - x), (1, x)]


def _cubic(x: Array) -> list[tuple[int, Array]]:
    """Weights of Catmull-Rom's spline for the pixels from one before to two after."""
    return [
        (-1, x * (-0.5 + x * (1.0 - 0.5 * x))),
        (0, 1.0 + x * x * (1.5 * x - 2.5)),
        (1, x * (0.5 + x * (2.0 - 1.5 * x))),
        (2, x * x * (0.5 * x - 0.5)),
    ]


def _by_scipy(image: Array, places: list[Array], order: int) -> Array:
    """B-splines of ``order`` at the crossings of two lists of places."""
    try:
        from scipy import ndimage
    except ImportError as error:
        msg = (
            f"resizing by splines of order {order} needs the package scipy, which is "
            "not installed: `pip install scipy`, or use interp_order 0 or 1"
        )
        raise PoseidonError(msg) from error
    grid = np.meshgrid(*places, indexing="ij")
    planes = [
        ndimage.map_coordinates(image[:, :, channel], grid, order=order)
        for channel in range(image.shape[2])
    ]
    return np.stack(planes, axis=-1)
