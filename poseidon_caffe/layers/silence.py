"""Silence: a reader for tops that nobody else wants."""

from __future__ import annotations

from collections.abc import Sequence

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.layers.base import Example, Layer, Storage
from poseidon_caffe.layers.registry import register

__all__ = ["Silence"]


@register("Silence")
class Silence(Layer):
    """Reads its bottoms so that they are no outputs of the net; gradients are 0.

    Bottoms: one or more of any shape.  Tops: none.

    Caffe parity: exact.
    """

    storage = Storage.MOVED
    min_bottom = 1
    num_top = 0

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Nothing to shape."""

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Nothing to compute."""

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """No gradient comes from here."""
        for blob, down in zip(bottom, propagate_down, strict=True):
            if down:
                self.ops.clear(blob.diff)

    @classmethod
    def examples(cls) -> list[Example]:
        """One bottom and two."""
        return [Example(), Example(bottoms=((2, 3), (4,)))]
