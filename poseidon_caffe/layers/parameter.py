"""Parameter: a learned blob as a top."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.layers.base import Example, Layer, LayerContext
from poseidon_caffe.layers.layout import Alias
from poseidon_caffe.layers.registry import register
from poseidon_caffe.schema.messages import FillerParameter

__all__ = ["Parameter"]


@register("Parameter")
class Parameter(Layer):
    """The top is the layer's parameter.

    Tops: ``parameter_param.shape``, sharing the parameter's data and diff.
    Params: one blob of that shape, 0 at first.

    Caffe parity: exact.  As in Caffe the layers above write the shared gradient
    anew in every pass, so with ``iter_size`` the last pass's remains.
    """

    num_bottom = 0
    num_top = 1

    def __init__(self, param: Any, context: LayerContext) -> None:
        super().__init__(param, context)
        self._alias = Alias(self.ops)

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Make the parameter."""
        shape = tuple(self.param.parameter_param.shape.dim)
        self.add_param(shape, FillerParameter())

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Show the parameter."""
        top[0].reshape(self.blobs[0].shape)
        self._alias.bind(self.blobs[0], top[0])

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Nothing, unless the top is stored in another layout."""
        # A lazily cleared gradient must become zeros before the layers above
        # write to the shared memory.
        self.blobs[0].diff.reshape(-1)
        self._alias.forward(self.blobs[0], top[0])

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """The top's gradient is the parameter's."""
        if self.param_propagate_down[0]:
            self._alias.backward(top[0], self.blobs[0])

    @classmethod
    def examples(cls) -> list[Example]:
        """Two axes and four."""
        two = "parameter_param { shape { dim: 2 dim: 3 } }"
        four = "parameter_param { shape { dim: 2 dim: 3 dim: 2 dim: 2 } }"
        return [Example(two, bottoms=()), Example(four, bottoms=())]
