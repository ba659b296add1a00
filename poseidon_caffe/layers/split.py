"""Split: one bottom read by several layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.errors import LayerError
from poseidon_caffe.layers.base import Example, Layer, LayerContext, Storage
from poseidon_caffe.layers.layout import Alias
from poseidon_caffe.layers.registry import register

__all__ = ["Split"]


@register("Split")
class Split(Layer):
    """Every top is the bottom; the bottom's gradient is the sum of theirs.

    Nets insert it wherever a blob has several readers.  Tops share the bottom's
    data, so nothing is copied.

    Bottoms: one of any shape.  Tops: one or more of the same shape.

    Caffe parity: exact.
    """

    storage = Storage.MOVED
    backward_reads_bottom = False
    backward_reads_top = False

    num_bottom = 1
    min_top = 1

    def __init__(self, param: Any, context: LayerContext) -> None:
        super().__init__(param, context)
        self._aliases: list[Alias] = []

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """One alias per top."""
        self._aliases = [Alias(self.ops) for _ in top]

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Tops share the bottom's data, not its diff."""
        for alias, blob in zip(self._aliases, top, strict=True):
            if blob is bottom[0]:
                raise LayerError(self.describe("does not work in place"))
            blob.reshape(bottom[0].shape)
            alias.bind(bottom[0], blob, diff=False)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Nothing, unless a top is stored in another layout."""
        for alias, blob in zip(self._aliases, top, strict=True):
            alias.forward(bottom[0], blob)

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """dx = sum of the tops' diffs."""
        if not propagate_down[0]:
            return
        if len(top) == 1:
            self.ops.copy(top[0].diff, bottom[0].diff)
        else:
            self.ops.add([t.diff for t in top], bottom[0].diff, [1.0] * len(top))

    @classmethod
    def examples(cls) -> list[Example]:
        """One top and three."""
        return [Example(num_top=1), Example(num_top=3)]
