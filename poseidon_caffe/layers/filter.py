"""Filter: only some items of a batch go on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.errors import LayerError
from poseidon_caffe.layers.base import Example, Layer, LayerContext
from poseidon_caffe.layers.registry import register
from poseidon_caffe.types import Array, Shape

__all__ = ["Filter"]


@register("Filter")
class Filter(Layer):
    """Passes on the items whose selector is not 0, the same ones of every bottom.

    Bottoms: one or more of shape (N, ...); last the selector (N[, 1...]), which gets
    no gradient.
    Tops: one per bottom but the selector, (M, ...), M the number of selectors that
    are not 0.  M changes from batch to batch, and layers after this one follow.
    Before the first pass the tops have the whole batch.

    Items that did not pass get a gradient of 0.

    Caffe parity: exact; where no item passes the tops are empty and all gradients 0
    (Caffe divides by zero in backward).
    """

    backward_reads_bottom = False
    backward_reads_top = False

    #: How much passes is the shape of the tops, which the host must know.
    works_on_host = True
    min_bottom = 2
    min_top = 1

    def __init__(self, param: Any, context: LayerContext) -> None:
        super().__init__(param, context)
        self._passing: Array | None = None

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """One top for each bottom but the selector."""
        if len(top) != len(bottom) - 1:
            problem = (
                f"has {len(bottom)} bottoms, the last of which selects, so it needs "
                f"{len(bottom) - 1} top(s), not {len(top)}"
            )
            raise LayerError(self.describe(problem))

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """The whole batch at first; later what the selector lets pass."""
        selector = bottom[-1].shape
        if not selector or any(n != 1 for n in selector[1:]):
            problem = "the selector's axes after the first must be of length 1"
            raise self.shape_error(problem, bottom)
        if any(blob.shape[:1] != selector[:1] for blob in bottom):
            raise self.shape_error("all bottoms must have the same batch", bottom)
        if self._passing is None:
            self._passing = np.arange(selector[0])
            self._shape_tops(bottom, top, self._passing)
        else:
            self._shape_tops(bottom, top, self._select(bottom))

    def _select(self, bottom: Sequence[Blob]) -> Array:
        """Numbers of the items that pass, ascending."""
        return np.flatnonzero(bottom[-1].cpu_data.reshape(-1))

    def _shape_tops(
        self, bottom: Sequence[Blob], top: Sequence[Blob], passing: Array
    ) -> None:
        for source, target in zip(bottom, top, strict=False):
            target.reshape((len(passing), *source.shape[1:]))

    def allow_force_backward(self, bottom_index: int) -> bool:
        """All but the selector, which is the last."""
        return bottom_index < len(self.param.bottom) - 1

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Copy what passes; the tops take its shape."""
        self._passing = passing = self._select(bottom)
        self._shape_tops(bottom, top, passing)
        for source, target in zip(bottom, top, strict=False):
            self.ops.gather_rows(source.data, passing, target.data)

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """Gradients go back to their places, the rest is 0."""
        if propagate_down[-1]:
            raise LayerError(self.describe("cannot backpropagate to its selector"))
        assert self._passing is not None
        for source, target, down in zip(bottom, top, propagate_down, strict=False):
            if down:
                self.ops.scatter_add_rows(target.diff, self._passing, source.diff)

    @classmethod
    def examples(cls) -> list[Example]:
        """One and two bottoms; nothing passes.

        The numeric check needs tops that keep their shape: see the type's own tests.
        """

        def some(*shapes: Shape, kinds: int = 2) -> Example:
            last = len(shapes) - 1
            return Example(
                bottoms=shapes,
                num_top=last,
                labels={last: kinds},
                check_gradient=False,
            )

        return [
            some((6, 3, 2), (6,)),
            some((6, 3, 4, 2), (6, 5), (6, 1, 1, 1)),
            some((4, 3), (4,), kinds=1),
        ]
