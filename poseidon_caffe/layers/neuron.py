"""Base of elementwise layers: one bottom, one top of its shape, often in place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.layers.base import Layer, LayerContext, Storage
from poseidon_caffe.layers.layout import like
from poseidon_caffe.types import Array

__all__ = ["NeuronLayer", "SavedInput"]


class SavedInput:
    """Keeps a layer's input for backward when forward overwrites it in place."""

    def __init__(self, layer: Layer) -> None:
        self._layer = layer
        self._copy: Blob | None = None

    def save(self, bottom: Blob, top: Blob) -> None:
        """Copy the bottom if ``top`` is the same blob and backward may come."""
        if bottom is not top or not self._layer.will_backward:
            self._copy = None
            return
        if self._copy is None or self._copy.shape != bottom.shape:
            self._copy = like(bottom)
        self._layer.ops.copy(bottom.data, self._copy.data)

    def data(self, bottom: Blob) -> Array:
        """What forward read."""
        return bottom.data if self._copy is None else self._copy.data


class NeuronLayer(Layer):
    """An elementwise layer: the top has the bottom's shape, and may be it.

    Bottoms: (any shape).  Tops: the same shape.
    """

    storage = Storage.BOTTOM
    num_bottom = 1
    num_top = 1
    allows_in_place = True

    def __init__(self, param: Any, context: LayerContext) -> None:
        super().__init__(param, context)
        self.saved = SavedInput(self)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """The top is as the bottom."""
        top[0].reshape(bottom[0].shape)
