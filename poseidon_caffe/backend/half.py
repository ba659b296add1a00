"""Numbers of 16 bits on the host: how they are marked, widened and narrowed."""

from __future__ import annotations

import numpy as np

from poseidon_caffe.types import Array

__all__ = ["BFLOAT16", "HALF", "host_dtype", "is_half", "narrow", "widen"]

BFLOAT16 = np.dtype(np.uint16)
"""How arrays of bfloat16 are marked: neither NumPy nor CuPy has that type."""

HALF = np.dtype(np.float16)
"""IEEE's binary16."""


def is_half(dtype: np.dtype) -> bool:
    """Whether elements are floats of 16 bits."""
    return dtype in {BFLOAT16, HALF}


def host_dtype(dtype: np.dtype) -> np.dtype:
    """What NumPy shows such elements as: float32 for 16 bits, else the same."""
    return np.dtype(np.float32) if is_half(dtype) else dtype


def widen(stored: Array, values: Array) -> None:
    """values = 16-bit floats as float32, exactly; both flat."""
    if stored.dtype == BFLOAT16:
        np.left_shift(stored, 16, out=values.view(np.uint32), dtype=np.uint32)
    else:
        values[...] = stored


def narrow(values: Array, stored: Array) -> None:
    """stored = float32 rounded to 16 bits, to nearest even; both flat."""
    if stored.dtype != BFLOAT16:
        with np.errstate(over="ignore"):
            stored[...] = values
        return
    words = values.view(np.uint32)
    rounded = (words + np.uint32(0x7FFF) + ((words >> 16) & np.uint32(1))) >> 16
    stored[...] = np.where(np.isnan(values), (words >> 16) | 0x40, rounded)
