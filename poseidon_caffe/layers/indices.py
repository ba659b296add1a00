"""Numbers of rows that come in blobs of floats."""

from __future__ import annotations

import numpy as np

from poseidon_caffe.errors import LayerError
from poseidon_caffe.layers.base import Layer
from poseidon_caffe.types import Array

__all__ = ["row_numbers"]


def row_numbers(
    layer: Layer,
    values: Array,
    rows: int,
    *,
    what: str,
    negative_fractions: bool = True,
) -> Array:
    """``values`` as row numbers: their whole parts, as Caffe takes them.

    Args:
        layer: named in the error.
        values: floats of any shape.
        rows: how many rows there are.
        what: what the rows are, for the error.
        negative_fractions: whether values such as -0.5 name row 0.

    Returns:
        int64, flat, each in 0..rows-1.

    Raises:
        LayerError: a value names no row, or is NaN.
    """
    flat = values.reshape(-1)
    good = (flat > -1 if negative_fractions else flat >= 0) & (flat < rows)
    if not good.all():
        first = int(np.argmin(good))
        allowed = f"0..{rows - 1}" if rows else "none: there are no rows"
        problem = (
            f"index {flat[first]:g} at position {first} is none of the {rows} {what} "
            f"(allowed: {allowed})"
        )
        raise LayerError(layer.describe(problem))
    return flat.astype(np.int64)
