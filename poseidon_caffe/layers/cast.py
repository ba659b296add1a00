"""Cast: numbers from one type of storage to another."""

from __future__ import annotations

from collections.abc import Sequence

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.errors import LayerError
from poseidon_caffe.layers.base import Example, Layer, Storage
from poseidon_caffe.layers.registry import register

__all__ = ["Cast"]


@register("Cast")
class Cast(Layer):
    """y = x, in another type of storage where the net has one for each.

    Nets insert it where blobs of 16 bits (``--precision bf16`` or ``fp16``) meet
    layers that work in float32, and the reverse; elsewhere it copies.

    Bottoms: one of any shape.  Tops: one of the same shape.

    Caffe parity: no such type in Caffe.
    """

    storage = Storage.MOVED
    backward_reads_bottom = False
    backward_reads_top = False

    num_bottom = 1
    num_top = 1

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """The top is as the bottom."""
        if top[0] is bottom[0]:
            raise LayerError(self.describe("does not work in place"))
        top[0].reshape(bottom[0].shape)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Round, or widen, every number."""
        self.ops.copy(bottom[0].data, top[0].data)

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """The gradient in the bottom's type."""
        if propagate_down[0]:
            self.ops.copy(top[0].diff, bottom[0].diff)

    @classmethod
    def examples(cls) -> list[Example]:
        """Images and a matrix."""
        return [Example(), Example(bottoms=((5, 6),))]
