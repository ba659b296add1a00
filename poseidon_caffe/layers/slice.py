"""Slice: one blob cut into several."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.errors import LayerError
from poseidon_caffe.layers.base import Example, Layer, LayerContext, Storage
from poseidon_caffe.layers.concat import joined_axis
from poseidon_caffe.layers.layout import Alias
from poseidon_caffe.layers.registry import register

__all__ = ["Slice"]


@register("Slice")
class Slice(Layer):
    """Cuts the bottom along ``axis`` (old name ``slice_dim``).

    Bottoms: one of any shape.
    Tops: one per part; cut before each ``slice_point``, or into equal parts when
    none is given.  A single top shares the bottom's memory.

    Caffe parity: exact.
    """

    storage = Storage.MOVED
    backward_reads_bottom = False
    backward_reads_top = False

    num_bottom = 1
    min_top = 1

    def __init__(self, param: Any, context: LayerContext) -> None:
        super().__init__(param, context)
        self._alias = Alias(self.ops)
        self._axis = 1

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Points, if given, are one fewer than tops and ascend."""
        points = list(self.param.slice_param.slice_point)
        if points and len(points) != len(top) - 1:
            problem = f"has {len(points)} slice_point for {len(top)} tops (one fewer)"
            raise LayerError(self.describe(problem))
        if any(a >= b for a, b in pairwise([0, *points])):
            problem = f"slice_point must ascend from above 0, not {points}"
            raise LayerError(self.describe(problem))

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Each top gets its part of the axis."""
        shape, p = bottom[0].shape, self.param.slice_param
        self._axis = axis = joined_axis(self, p, "slice_dim", bottom[0])
        points = list(p.slice_point)
        # The last part may be empty, as in Caffe, but there are no more than elements.
        if points and (points[-1] > shape[axis] or len(top) > shape[axis]):
            problem = f"slice_point {points} exceeds axis {axis} of length"
            raise self.shape_error(f"{problem} {shape[axis]}", bottom)
        if not points and shape[axis] % len(top):
            problem = f"cannot cut axis {axis} of length {shape[axis]} into"
            raise self.shape_error(f"{problem} {len(top)} equal parts", bottom)
        each = shape[axis] // len(top)
        ends = points or [each * (i + 1) for i in range(len(top) - 1)]
        for blob, (a, b) in zip(top, pairwise([0, *ends, shape[axis]]), strict=True):
            blob.reshape((*shape[:axis], b - a, *shape[axis + 1 :]))
        if len(top) == 1:
            self._alias.bind(bottom[0], top[0])

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Copy every part out."""
        if len(top) == 1:
            self._alias.forward(bottom[0], top[0])
            return
        sizes = [blob.shape[self._axis] for blob in top]
        parts = [blob.data for blob in top]
        self.ops.split(bottom[0].data, self._axis, parts, sizes)

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """Put the gradients side by side."""
        if not propagate_down[0]:
            return
        if len(top) == 1:
            self._alias.backward(top[0], bottom[0])
        else:
            self.ops.concat([blob.diff for blob in top], self._axis, bottom[0].diff)

    @classmethod
    def examples(cls) -> list[Example]:
        """At points, evenly, along several axes, whole."""
        points = "slice_param { slice_point: 1 slice_point: 4 }"
        return [
            Example(points, bottoms=((2, 6, 3, 3),), num_top=3),
            Example("slice_param { axis: 2 }", bottoms=((2, 3, 4, 3),), num_top=2),
            Example("slice_param { axis: 0 }", bottoms=((4, 3),), num_top=2),
            Example("slice_param { slice_dim: 1 }", bottoms=((2, 4),), num_top=4),
            Example(num_top=1),
        ]
