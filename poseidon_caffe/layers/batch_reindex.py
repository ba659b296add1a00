"""BatchReindex: items of a batch chosen by number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.errors import LayerError
from poseidon_caffe.layers.base import Example, Layer, LayerContext
from poseidon_caffe.layers.indices import RowNumbers
from poseidon_caffe.layers.registry import register
from poseidon_caffe.types import Array, Shape

__all__ = ["BatchReindex"]


@register("BatchReindex")
class BatchReindex(Layer):
    """y[i] = x[index[i]]: chooses, repeats, drops and reorders items of a batch.

    Bottoms: x (N, ...); index (M,), numbers 0..N-1 as floats, which get no gradient.
    Tops: (M, ...).

    The gradient of an item is the sum over its copies, 0 if it has none.

    Caffe parity: exact.
    """

    backward_reads_top = False

    num_bottom = 2
    num_top = 1

    def __init__(self, param: Any, context: LayerContext) -> None:
        super().__init__(param, context)
        what = "items of the batch"
        self._numbers = RowNumbers(self, what=what, negative_fractions=False)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """As many items as there are numbers."""
        if len(bottom[1].shape) != 1 or not bottom[0].shape:
            raise self.shape_error("needs a batch, and numbers of one axis", bottom)
        top[0].reshape((bottom[1].shape[0], *bottom[0].shape[1:]))

    def allow_force_backward(self, bottom_index: int) -> bool:
        """Numbers of items have no gradient."""
        return bottom_index == 0

    def _index(self, bottom: Sequence[Blob]) -> Array:
        return self._numbers.of(bottom[1].data, bottom[0].shape[0])

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Copy the chosen items."""
        self.ops.gather_rows(bottom[0].data, self._index(bottom), top[0].data)

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """Add the copies' gradients up."""
        if propagate_down[1]:
            raise LayerError(self.describe("cannot backpropagate to its item numbers"))
        if propagate_down[0]:
            index = self._index(bottom)
            self.ops.scatter_add_rows(top[0].diff, index, bottom[0].diff)

    @classmethod
    def examples(cls) -> list[Example]:
        """More and fewer items than there were."""

        def chosen(shape: Shape, count: int) -> Example:
            bottoms = (shape, (count,))
            return Example(bottoms=bottoms, labels={1: shape[0]}, batch_axes=(0, 0))

        return [chosen((4, 3, 2), 7), chosen((3, 4, 5, 2), 2), chosen((5,), 6)]
