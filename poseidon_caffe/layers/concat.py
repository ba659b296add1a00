"""Concat: several blobs laid side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.errors import LayerError
from poseidon_caffe.layers.base import Example, Layer, LayerContext, Storage
from poseidon_caffe.layers.layout import Alias
from poseidon_caffe.layers.registry import register

__all__ = ["Concat", "joined_axis"]


def joined_axis(layer: Layer, p: Any, dim_field: str, blob: Blob) -> int:
    """The axis of a ConcatParameter or SliceParameter, old field or new.

    Raises:
        LayerError: both fields are given.
        ShapeError: the blob has no such axis.
    """
    if not p.HasField(dim_field):
        return blob.canonical_axis(p.axis)
    if p.HasField("axis"):
        problem = f"give axis or {dim_field} (its old name), not both"
        raise LayerError(layer.describe(problem))
    return blob.canonical_axis(getattr(p, dim_field))


@register("Concat")
class Concat(Layer):
    """Lays the bottoms side by side along ``axis`` (old name ``concat_dim``).

    Bottoms: one or more, alike but for that axis.
    Tops: the same shape with the sum of the lengths; with one bottom it shares
    the bottom's memory.

    Caffe parity: exact.
    """

    storage = Storage.MOVED
    backward_reads_bottom = False
    backward_reads_top = False

    min_bottom = 1
    num_top = 1

    def __init__(self, param: Any, context: LayerContext) -> None:
        super().__init__(param, context)
        self._alias = Alias(self.ops)
        self._axis = 1

    @property
    def axis(self) -> int:
        """The axis along which bottoms lie (after reshape)."""
        return self._axis

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Other axes must agree."""
        first, p = bottom[0].shape, self.param.concat_param
        self._axis = axis = joined_axis(self, p, "concat_dim", bottom[0])
        for blob in bottom[1:]:
            rest = (*blob.shape[:axis], *blob.shape[axis + 1 :])
            alike = rest == (*first[:axis], *first[axis + 1 :])
            if len(blob.shape) != len(first) or not alike:
                problem = f"bottoms must agree on every axis but {axis}"
                raise self.shape_error(problem, bottom)
        length = sum(blob.shape[axis] for blob in bottom)
        top[0].reshape((*first[:axis], length, *first[axis + 1 :]))
        if len(bottom) == 1:
            self._alias.bind(bottom[0], top[0])

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Copy every bottom to its place."""
        if len(bottom) == 1:
            self._alias.forward(bottom[0], top[0])
        else:
            self.ops.concat([blob.data for blob in bottom], self._axis, top[0].data)

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """Cut the gradient up again."""
        if not any(propagate_down):
            return
        if len(bottom) == 1:
            self._alias.backward(top[0], bottom[0])
            return
        parts = [
            blob.diff if down else None
            for blob, down in zip(bottom, propagate_down, strict=True)
        ]
        sizes = [blob.shape[self._axis] for blob in bottom]
        self.ops.split(top[0].diff, self._axis, parts, sizes)

    @classmethod
    def examples(cls) -> list[Example]:
        """Along channels and other axes; one bottom; the old field."""
        return [
            Example(bottoms=((2, 3, 4, 5), (2, 2, 4, 5))),
            Example("concat_param { axis: 0 }", bottoms=((2, 3, 4), (1, 3, 4))),
            Example("concat_param { axis: -1 }", bottoms=((2, 3), (2, 1), (2, 4))),
            Example("concat_param { axis: 2 }", bottoms=((2, 3, 1, 2), (2, 3, 4, 2))),
            Example("concat_param { concat_dim: 1 }", bottoms=((2, 3), (2, 1))),
            Example(bottoms=((2, 3, 4, 5),)),
        ]
