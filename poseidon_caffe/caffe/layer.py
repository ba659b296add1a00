"""Layers as pycaffe shows them in ``net.layers``."""

from __future__ import annotations

from poseidon_caffe.caffe.blob import BlobVec
from poseidon_caffe.layers.base import Layer as CoreLayer

__all__ = ["LayerView"]


class LayerView:
    """One layer of a net: its type and parameters."""

    __slots__ = ("_blobs", "_core")

    def __init__(self, layer: CoreLayer) -> None:
        self._core = layer
        self._blobs = BlobVec(layer.blobs)

    @property
    def type(self) -> str:
        """The type string of the prototxt, such as "Convolution"."""
        return self._core.type

    @property
    def name(self) -> str:
        """The layer's name."""
        return self._core.name

    @property
    def blobs(self) -> BlobVec:
        """Parameters: weights first, then the bias."""
        return self._blobs

    def __repr__(self) -> str:
        return f"<Layer {self.name!r} ({self.type})>"
