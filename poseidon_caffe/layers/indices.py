"""Numbers of rows that come in blobs of floats."""

from __future__ import annotations

import numpy as np

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.errors import LayerError
from poseidon_caffe.layers.base import Layer
from poseidon_caffe.types import Array

__all__ = ["RowNumbers"]


class RowNumbers:
    """Row numbers: the whole parts of floats, as Caffe takes them.

    Args:
        layer: named in the error; it makes one of these and keeps it.
        what: what the rows are, for the error.
        negative_fractions: whether values such as -0.5 name row 0.
    """

    def __init__(
        self, layer: Layer, *, what: str, negative_fractions: bool = True
    ) -> None:
        def error(value: float, position: int, rows: int) -> LayerError:
            allowed = f"0..{rows - 1}" if rows else "none: there are no rows"
            problem = (
                f"index {value:g} at position {position} is none of the {rows} {what} "
                f"(allowed: {allowed})"
            )
            return LayerError(layer.describe(problem))

        self._check = layer.ops.number_check(
            error, negative_fractions=negative_fractions
        )
        self._index = Blob(dtype=np.int64, memory=layer.ops.memory)

    def of(self, values: Array, rows: int) -> Array:
        """``values`` (floats of any shape) as numbers of one of ``rows`` rows.

        Returns:
            int64, flat, each in 0..rows-1; good until the next call.  On a GPU a
            value that names no row becomes -1.

        Raises:
            LayerError: a value names no row, or is NaN; a GPU says so when the loss
                is read.
        """
        self._index.reshape((values.size,))
        index = self._index.data
        self._check.run(values, rows, index)
        return index
