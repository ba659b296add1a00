"""Layers as pycaffe shows them: to look at in ``net.layers``, and to derive from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from poseidon_caffe.caffe.blob import Blob, BlobVec
from poseidon_caffe.errors import LayerError
from poseidon_caffe.layers.base import Layer as CoreLayer
from poseidon_caffe.types import JsonObject, Phase

__all__ = ["Layer", "LayerView"]


class Layer:
    """Base of layers written in Python: ``class Mine(caffe.Layer)``.

    A prototxt names the class in ``python_param``.  Its four methods are called with
    lists of blobs, whose ``data`` and ``diff`` are to be written in place.

    Attributes:
        param_str: the text of ``python_param { param_str }``.
        phase: ``caffe.TRAIN`` or ``caffe.TEST``.
        blobs: the parameters; ``self.blobs.add_blob(...)`` in `setup` makes one.
    """

    param_str: str = ""
    #: The same under the name that Caffe of 2014 gave it.
    param_str_: str = ""
    phase: int = int(Phase.TRAIN)

    def __init__(self, param: Any) -> None:
        self._param = param
        self._blobs = BlobVec([])

    @property
    def type(self) -> str:
        """The type string of the prototxt."""
        return str(self._param.type)

    @property
    def name(self) -> str:
        """The layer's name in the prototxt."""
        return str(self._param.name)

    @property
    def blobs(self) -> BlobVec:
        """Parameters: weights first, then the bias, in built-in layers."""
        return self._blobs

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Called once: read ``param_str``, check counts, make parameters."""

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Called after `setup` and before every forward: shape the tops."""
        raise self._lacks("reshape")

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Write the tops' data."""
        raise self._lacks("forward")

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """Write the diffs of the bottoms asked for; add to those of ``blobs``."""
        raise self._lacks("backward")

    def resume_state(self) -> JsonObject:
        """What must be stored beside a snapshot so that a resumed run is the same.

        A Poseidon extra: JSON-able, such as a data layer's position.  Optional.
        """
        return {}

    def restore_resume_state(self, state: JsonObject) -> None:
        """Take back what `resume_state` gave; called before the first forward."""

    def _lacks(self, method: str) -> LayerError:
        name = type(self).__name__
        msg = f'layer "{self.name}" ({self.type}): class {name} defines no {method}()'
        return LayerError(msg)

    def __repr__(self) -> str:
        return f"<Layer {self.name!r} ({self.type})>"


class LayerView(Layer):
    """A built-in layer of a net: its type, name and parameters."""

    def __init__(self, layer: CoreLayer) -> None:
        super().__init__(layer.param)
        self.phase = int(layer.phase)
        self._blobs = BlobVec(layer.blobs)
        self._type = layer.type

    @property
    def type(self) -> str:
        """The type string, such as "Convolution"."""
        return self._type
