"""Windows of an image laid out as columns, and back."""

from __future__ import annotations

from typing import Protocol

from poseidon_caffe.backend.geometry import ColumnGeometry
from poseidon_caffe.types import Array

__all__ = ["ColumnOps"]


class ColumnOps(Protocol):
    """The copy of a convolution's windows.

    x is (N, C, *spatial) and columns is (N, C, *kernel, *windows), both with any
    strides: columns[n, c, k, i] is x[n, c, stride i + dilation k - pad], 0 outside.
    """

    def im2col(self, x: Array, columns: Array, geometry: ColumnGeometry) -> None:
        """Fill ``columns`` from ``x``."""

    def col2im(self, columns: Array, x: Array, geometry: ColumnGeometry) -> None:
        """x = the sum of every column entry that `im2col` took from it."""
