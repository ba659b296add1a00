"""Embed: a learned vector for each of so many numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.errors import LayerError
from poseidon_caffe.layers.base import Example, Layer, LayerContext
from poseidon_caffe.layers.indices import RowNumbers
from poseidon_caffe.layers.layout import PlainView
from poseidon_caffe.layers.registry import register
from poseidon_caffe.types import Array, Shape

__all__ = ["Embed"]


@register("Embed")
class Embed(Layer):
    """y = weights[x] + bias: an InnerProduct of one-hot vectors, without making them.

    Bottoms: numbers 0..input_dim-1 of any shape, as floats; a fraction is cut off.
    They get no gradient.
    Tops: the bottom's shape and one more axis of ``num_output``.
    Params: weights (input_dim, num_output), filled by ``weight_filler``; bias
    (num_output,), filled by ``bias_filler``, unless ``bias_term: false`` (default
    true).

    ``embed_param``: ``num_output`` and ``input_dim``, both needed and positive;
    ``bias_term``, ``weight_filler``, ``bias_filler``.

    Caffe parity: exact, but a number that is no row is an error (Caffe reads whatever
    memory it points at).
    """

    backward_reads_top = False

    num_bottom = 1
    num_top = 1

    def __init__(self, param: Any, context: LayerContext) -> None:
        super().__init__(param, context)
        self._rows, self._width = 0, 0
        self._view = PlainView(self.ops, context.dtype)
        what = "rows of the weights; is input_dim too small?"
        self._numbers = RowNumbers(self, what=what)

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Make weights and bias."""
        p = self.param.embed_param
        for name in ("num_output", "input_dim"):
            if getattr(p, name) < 1:
                problem = f"embed_param {{ {name} }} must be given and positive"
                raise LayerError(self.describe(problem))
        self._rows, self._width = p.input_dim, p.num_output
        self.add_param((self._rows, self._width), p.weight_filler)
        if p.bias_term:
            self.add_param((self._width,), p.bias_filler)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """One more axis."""
        top[0].reshape((*bottom[0].shape, self._width))

    def allow_force_backward(self, bottom_index: int) -> bool:
        """Numbers of rows have no gradient."""
        return False

    def _index(self, bottom: Sequence[Blob]) -> Array:
        return self._numbers.of(bottom[0].data, self._rows)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Look the rows up, add the bias."""
        shape = (bottom[0].count, self._width)
        y = self._view.target(top[0].data, shape)
        bias = self.blobs[1].data if len(self.blobs) > 1 else None
        self.ops.gather_rows(self.blobs[0].data, self._index(bottom), y, bias)
        self._view.write_back(y, top[0].data)

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """Each row's gradient is the sum over the places that looked it up."""
        if propagate_down[0]:
            raise LayerError(self.describe("cannot backpropagate to its row numbers"))
        if not any(self.param_propagate_down):
            return
        dy = self._view.read(top[0].diff, (bottom[0].count, self._width))
        if self.param_propagate_down[0]:
            dw, accumulate = self.blobs[0].gradient_target()
            self.ops.scatter_add_rows(
                dy, self._index(bottom), dw, accumulate=accumulate
            )
        if len(self.blobs) > 1 and self.param_propagate_down[1]:
            db, accumulate = self.blobs[1].gradient_target()
            self.ops.sum_outer(dy, 1, db.shape, db, accumulate=accumulate)

    @classmethod
    def examples(cls) -> list[Example]:
        """With and without bias, numbers of various shapes."""

        def embed(text: str, shape: Shape) -> Example:
            fill = 'weight_filler { type: "xavier" } bias_filler { type: "uniform" }'
            param = f"embed_param {{ input_dim: 5 num_output: 3 {text} {fill} }}"
            return Example(param, bottoms=(shape,), labels={0: 5})

        return [
            embed("", (4,)),
            embed("bias_term: false", (4, 3)),
            embed("", (2, 3, 2)),
            embed("", (2, 3, 2, 2)),
        ]
