"""ArgMax: which elements are largest."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.errors import LayerError
from poseidon_caffe.layers.base import Example, Layer
from poseidon_caffe.layers.registry import register
from poseidon_caffe.types import Array, Shape

__all__ = ["ArgMax"]

#: So many are found one by one sooner than by sorting all.
_FEW = 10


@register("ArgMax")
class ArgMax(Layer):
    """The ``top_k`` largest elements, largest first, as indices or values.

    Bottoms: one of any shape.
    Tops: with ``axis``, the bottom's shape with that axis of length top_k: indices,
    or values with ``out_max_val``.  Without, each sample is flattened: (N, 1, top_k)
    of indices, or (N, 2, top_k) of indices and values (more axes of 1 follow when
    the bottom has more than three).

    Caffe parity: exact; of equal values the one with the larger index comes first;
    no gradient.
    """

    num_bottom = 1
    num_top = 1
    works_on_host = True

    def _length(self, bottom: Blob) -> int:
        p = self.param.argmax_param
        if p.HasField("axis"):
            return bottom.shape[bottom.canonical_axis(p.axis)]
        return math.prod(bottom.shape[1:])

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """There must be so many elements to choose from; see the class."""
        p, shape = self.param.argmax_param, bottom[0].shape
        if not shape:
            raise self.shape_error("needs at least one axis", bottom)
        length = self._length(bottom[0])
        if not 1 <= p.top_k <= length:
            problem = f"top_k must be in 1..{length}, not {p.top_k}"
            raise LayerError(self.describe(problem))
        if p.HasField("axis"):
            axis = bottom[0].canonical_axis(p.axis)
            top[0].reshape((*shape[:axis], p.top_k, *shape[axis + 1 :]))
        else:
            more: Shape = (1,) * max(len(shape) - 3, 0)
            rows = 2 if p.out_max_val else 1
            top[0].reshape((shape[0], rows, p.top_k, *more))

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Sort and take the best."""
        p, x = self.param.argmax_param, bottom[0].cpu_data
        y = top[0].mutable_cpu_data
        if p.HasField("axis"):
            axis = bottom[0].canonical_axis(p.axis)
            best = _best(np.moveaxis(x, axis, -1), p.top_k)
            values = np.take_along_axis(np.moveaxis(x, axis, -1), best, -1)
            y[...] = np.moveaxis(values if p.out_max_val else best, -1, axis)
            return
        flat = x.reshape(x.shape[0], math.prod(x.shape[1:]))
        best = _best(flat, p.top_k)
        rows = [best, np.take_along_axis(flat, best, -1)] if p.out_max_val else [best]
        y[...] = np.stack(rows, axis=1).reshape(y.shape)

    @classmethod
    def examples(cls) -> list[Example]:
        """Flattened and along an axis."""

        def best(text: str, *shape: int) -> Example:
            param = f"argmax_param {{ {text} }}"
            return Example(param, bottoms=(shape,), check_gradient=False)

        return [
            best("", 3, 10),
            best("top_k: 3 out_max_val: true", 3, 10),
            best("top_k: 2", 2, 3, 4, 5),
            best("axis: 1 top_k: 2", 2, 3, 5, 6),
            best("axis: -1 out_max_val: true", 2, 3, 4),
        ]


def _best(x: Array, top_k: int) -> Array:
    """Indices of the largest along the last axis, ties by descending index."""
    # The first of equal values in descending order is the last in ascending order.
    backwards = x[..., ::-1]
    if top_k == 1:
        best = np.argmax(backwards, axis=-1)[..., None]
    elif top_k <= _FEW and x.size and x.min() > -np.inf:
        best = _one_by_one(np.array(backwards, order="C"), top_k)
    else:
        best = np.argsort(-backwards, axis=-1, kind="stable")[..., :top_k]
    return np.asarray(x.shape[-1] - 1 - best)


def _one_by_one(x: Array, top_k: int) -> Array:
    """Indices of the largest along the last axis, all finite; ``x`` is changed."""
    best = np.empty((*x.shape[:-1], top_k), np.int64)
    for k in range(top_k):
        best[..., k] = np.argmax(x, axis=-1)
        np.put_along_axis(x, best[..., k, None], -np.inf, axis=-1)
    return best
