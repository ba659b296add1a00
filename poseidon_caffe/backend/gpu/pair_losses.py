"""Losses of the differences of two arrays."""

from __future__ import annotations

from poseidon_caffe.backend.gpu.launcher import GRID_BLOCKS, row_threads
from poseidon_caffe.backend.gpu.loss_results import GpuLossResults
from poseidon_caffe.backend.protocols import Sums, Weight
from poseidon_caffe.types import Array

__all__ = ["GpuPairLosses"]

_SOURCE = "pair_losses"


class GpuPairLosses(GpuLossResults):
    """`PairLossOps` on a GPU."""

    def squared_difference(
        self, a: Array, b: Array, difference: Array, sums: Sums
    ) -> None:
        """difference = a - b, of one shape; sums = sum of its squares, elements."""
        with self.alike([a, b], [difference]) as ((left, right), (out,)):

            def launch(blocks: int, parts: Array) -> None:
                self.kernels(_SOURCE).blocks(
                    "squared_difference", a.dtype, blocks, left, right, out, parts,
                    a.size,
                )  # fmt: skip

            self.add_up_each(sums, a.size, launch)

    def weigh(self, x: Array, weight: Weight, factor: float, y: Array) -> None:
        """y = factor * weight * x; as many elements in C order, y may be x."""
        if x.shape != y.shape:
            self.copy(x, y)
            x = y
        with self.alike([x], [y]) as ((source,), (out,)):
            self.kernels(_SOURCE).each(
                "weigh", x.dtype, x.size, source, weight, float(factor), out, x.size
            )

    def row_distances(self, a: Array, b: Array, squares: Array) -> None:
        """squares[i] = sum over c of (a[i, c] - b[i, c])^2; a, b (N, C)."""
        with self.planes(1, [a, b], []) as planes:
            self._each_row("row_distances", a, *planes.reads, squares)

    def pull_rows(
        self, a: Array, b: Array, factor: Array, da: Array | None, db: Array | None
    ) -> None:
        """da = factor[i] (a - b), db = -da, each if given; factor (N,)."""
        wanted = [d for d in (da, db) if d is not None]
        with self.planes(1, [a, b], wanted) as planes:
            outs = iter(planes.writes)
            targets = (None if d is None else next(outs) for d in (da, db))
            self._each_row("pull_rows", a, *planes.reads, factor, *targets)

    def _each_row(self, kernel: str, a: Array, *arrays: Array | None) -> None:
        """Run a kernel in which a block works on a row."""
        rows, length = a.shape
        self.kernels(_SOURCE).blocks(
            kernel, a.dtype, min(rows, GRID_BLOCKS), *arrays, rows, length,
            threads=row_threads(length),
        )  # fmt: skip

    def contrastive_loss(
        self, squares: Array, label: Array, margin: float, sums: Sums, *, legacy: bool
    ) -> None:
        """sums = sum of squares for similar pairs, of the push for others; pairs."""
        labels = self.plain_params(label, squares.dtype)

        def launch(blocks: int, parts: Array) -> None:
            self.kernels(_SOURCE).blocks(
                "contrastive_loss", squares.dtype, blocks, squares, labels,
                float(margin), legacy, parts, squares.size,
            )  # fmt: skip

        self.add_up_each(sums, squares.size, launch)

    def contrastive_factors(
        self, squares: Array, label: Array, margin: float, weight: Weight,
        factors: Array, *, legacy: bool,
    ) -> None:  # fmt: skip
        """factors[i] = weight * what a - b is multiplied with in its own gradient."""
        labels = self.plain_params(label, squares.dtype)
        self.kernels(_SOURCE).each(
            "contrastive_factors", squares.dtype, squares.size, squares, labels,
            float(margin), legacy, weight, factors, squares.size,
        )  # fmt: skip
