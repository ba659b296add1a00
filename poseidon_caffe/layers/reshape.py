"""Flatten and Reshape: the same numbers under another shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.errors import LayerError
from poseidon_caffe.layers.base import Example, Layer, LayerContext, Storage
from poseidon_caffe.layers.layout import Alias
from poseidon_caffe.layers.registry import register
from poseidon_caffe.types import Shape

__all__ = ["Flatten", "Reshape", "ShapeLayer"]


class ShapeLayer(Layer):
    """Base of layers that only rename elements in C order.

    The top shares the bottom's memory where both are stored in C order, else the
    numbers are copied.
    """

    storage = Storage.MOVED
    backward_reads_bottom = False
    backward_reads_top = False

    num_bottom = 1
    num_top = 1

    def __init__(self, param: Any, context: LayerContext) -> None:
        super().__init__(param, context)
        self._alias = Alias(self.ops)

    def new_shape(self, bottom: Blob) -> Shape:
        """The top's shape."""
        raise LayerError(self.describe("has no shape of its own"))

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Rename, and share memory if possible."""
        if bottom[0] is top[0]:
            raise LayerError(self.describe("does not work in place"))
        top[0].reshape(self.new_shape(bottom[0]))
        if top[0].count != bottom[0].count:
            problem = f"cannot show {bottom[0].count} elements as {top[0].shape}"
            raise self.shape_error(problem, bottom)
        self._alias.bind(bottom[0], top[0])

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Nothing if shared, else a copy in C order."""
        self._alias.forward(bottom[0], top[0])

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """Nothing if shared, else a copy in C order."""
        if propagate_down[0]:
            self._alias.backward(top[0], bottom[0])


@register("Flatten")
class Flatten(ShapeLayer):
    """Joins the axes ``axis`` to ``end_axis`` (inclusive) into one.

    An ``end_axis`` right before ``axis`` inserts an axis of length 1.

    Bottoms: one of any shape.  Tops: (before..., product, after...).

    Caffe parity: exact; not in place.
    """

    def new_shape(self, bottom: Blob) -> Shape:
        """Joined axes."""
        p = self.param.flatten_param
        start = bottom.canonical_axis(p.axis)
        stop = bottom.canonical_axis(p.end_axis) + 1
        shape = bottom.shape
        if stop < start:
            problem = f"end_axis {p.end_axis} lies before axis {p.axis}"
            raise self.shape_error(problem, [bottom])
        return (*shape[:start], math.prod(shape[start:stop]), *shape[stop:])

    @classmethod
    def examples(cls) -> list[Example]:
        """All but the batch, and inner axes."""
        return [
            Example(),
            Example("flatten_param { axis: 0 end_axis: 1 }"),
            Example("flatten_param { axis: 2 }"),
            Example(
                "flatten_param { axis: 1 end_axis: 2 }", bottoms=((2, 3, 2, 2, 3),)
            ),
        ]


@register("Reshape")
class Reshape(ShapeLayer):
    """Replaces ``num_axes`` axes from ``axis`` on by ``shape``.

    In ``shape`` 0 copies the bottom's axis at that place and one -1 is inferred.
    ``axis`` -1 is behind the last axis; ``num_axes`` -1 means all that follow, 0
    inserts.

    Bottoms: one of any shape.  Tops: the same count under the new shape.

    Caffe parity: exact; not in place.
    """

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """At most one axis can be inferred."""
        dims = list(self.param.reshape_param.shape.dim)
        if dims.count(-1) > 1 or any(dim < -1 for dim in dims):
            problem = f"shape {dims} may hold one -1, and else 0 or lengths"
            raise LayerError(self.describe(problem))

    def new_shape(self, bottom: Blob) -> Shape:
        """The bottom's shape with a part replaced."""
        p, shape = self.param.reshape_param, bottom.shape
        start = p.axis if p.axis >= 0 else len(shape) + p.axis + 1
        stop = len(shape) if p.num_axes == -1 else start + p.num_axes
        if not 0 <= start <= stop <= len(shape):
            problem = f"axis {p.axis} and num_axes {p.num_axes} are out of range"
            raise self.shape_error(problem, [bottom])
        dims = list(p.shape.dim)
        copied = [start + i for i, dim in enumerate(dims) if dim == 0]
        if copied and copied[-1] >= len(shape):
            problem = f"dim 0 at place {copied[-1] - start} has no axis to copy"
            raise self.shape_error(problem, [bottom])
        if -1 in dims:
            rest = [shape[i] for i in range(start, stop) if i not in copied]
            # Axes may be copied from behind those that are replaced.
            known = [dim for dim in dims if dim > 0]
            known += [shape[i] for i in copied if i >= stop]
            count = self._inferred(bottom, math.prod(known), math.prod(rest))
            dims[dims.index(-1)] = count
        for axis in copied:
            dims[axis - start] = shape[axis]
        return (*shape[:start], *dims, *shape[stop:])

    def _inferred(self, bottom: Blob, known: int, count: int) -> int:
        """The length that -1 stands for: ``count`` elements in rows of ``known``."""
        if known == 0 or count % known:
            problem = f"{count} elements do not divide into {known} for the -1"
            raise self.shape_error(problem, [bottom])
        return count // known

    @classmethod
    def examples(cls) -> list[Example]:
        """Copied, inferred, inner and inserted axes."""

        def shaped(dims: str, more: str, *shape: int) -> Example:
            text = " ".join(f"dim: {dim}" for dim in dims.split())
            param = f"reshape_param {{ shape {{ {text} }} {more} }}"
            return Example(param, bottoms=(shape,))

        return [
            shaped("0 -1 2", "", 2, 3, 4),
            shaped("0 -1", "", 2, 3, 4, 5),
            shaped("0 2 -1 5", "", 2, 3, 4, 5),
            shaped("3 2", "axis: 1 num_axes: 1", 2, 6, 4),
            shaped("1", "axis: -1 num_axes: 0", 2, 3),
            shaped("0 3 4 5", "", 2, 60),
        ]
