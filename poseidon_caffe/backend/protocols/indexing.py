"""Choosing rows by number, and adding rows up by number."""

from __future__ import annotations

from typing import Protocol

from poseidon_caffe.types import Array

__all__ = ["IndexingOps"]


class IndexingOps(Protocol):
    """Rows are the slices of an array along its first axis."""

    def gather_rows(
        self, x: Array, index: Array, y: Array, plus: Array | None = None
    ) -> None:
        """y[i] = x[index[i]] [+ plus].

        Args:
            x: (R, ...).
            index: (M,), integers in 0..R-1, which the caller has checked.
            y: (M, ...), of the same trailing axes; shares no memory with ``x``.
            plus: a row to add to each.
        """

    def scatter_add_rows(
        self, dy: Array, index: Array, dx: Array, *, accumulate: bool = False
    ) -> None:
        """dx[index[i]] += dy[i] for each i; rows that no index names become 0.

        With ``accumulate`` all that is added to what ``dx`` holds.  The same index
        may come often.

        Args:
            dy: (M, ...).
            index: (M,), integers in 0..R-1, which the caller has checked.
            dx: (R, ...), of the same trailing axes; shares no memory with ``dy``.
            accumulate: whether ``dx`` holds what is added to.
        """
