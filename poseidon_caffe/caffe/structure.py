"""What a net is made of, under the names that pycaffe's scripts know."""

from __future__ import annotations

from collections import OrderedDict

from poseidon_caffe.caffe.blob import Blob, BlobVec
from poseidon_caffe.caffe.layer import Layer, LayerView
from poseidon_caffe.caffe.python_layer import Python
from poseidon_caffe.layers.base import Layer as CoreLayer
from poseidon_caffe.net.net import Net as CoreNet

__all__ = ["NetStructure"]

_Names = OrderedDict[str, list[str]]


class NetStructure:
    """Blobs, parameters, layers and their names: the part of a net to look at."""

    def _attach(self, core: CoreNet) -> None:
        self._core = core
        self._blobs_by_name = OrderedDict(
            (name, Blob(blob)) for name, blob in core.blobs.items()
        )
        self._layers = [_layer(layer) for layer in core.layers]
        self._params = OrderedDict(
            (name, layer.blobs)
            for name, layer in zip(core.layer_names, self._layers, strict=True)
            if len(layer.blobs)
        )

    # -- what it is made of --------------------------------------------------------
    @property
    def name(self) -> str:
        """The net's name in the prototxt."""
        return self._core.name

    @property
    def blobs(self) -> OrderedDict[str, Blob]:
        """Every blob by name, in the order they are made, splits' tops included."""
        return self._blobs_by_name

    @property
    def params(self) -> OrderedDict[str, BlobVec]:
        """Parameters by layer: ``params['conv1'][0]`` are weights, ``[1]`` the bias."""
        return self._params

    @property
    def layers(self) -> list[Layer]:
        """The layers in order, splits included; a Python layer as the user's object."""
        return list(self._layers)

    @property
    def layer_dict(self) -> OrderedDict[str, Layer]:
        """Layers by name."""
        return OrderedDict(zip(self._layer_names, self._layers, strict=True))

    @property
    def inputs(self) -> list[str]:
        """Names of the blobs that ``Input`` layers make."""
        return list(self._core.input_names)

    @property
    def outputs(self) -> list[str]:
        """Names of the blobs that no layer reads."""
        return list(self._core.output_names)

    @property
    def top_names(self) -> _Names:
        """Blobs that each layer makes, by layer name."""
        return OrderedDict(
            zip(self._layer_names, map(list, self._core.top_names), strict=True)
        )

    @property
    def bottom_names(self) -> _Names:
        """Blobs that each layer reads, by layer name."""
        return OrderedDict(
            zip(self._layer_names, map(list, self._core.bottom_names), strict=True)
        )

    @property
    def blob_loss_weights(self) -> OrderedDict[str, float]:
        """Loss weight of every blob; 0 for those that are no loss."""
        return OrderedDict(self._core.loss_weights)

    @property
    def _layer_names(self) -> list[str]:
        return list(self._core.layer_names)

    @property
    def _blob_names(self) -> list[str]:
        return list(self._blobs_by_name)

    @property
    def _blobs(self) -> list[Blob]:
        return list(self._blobs_by_name.values())

    @property
    def _blob_loss_weights(self) -> list[float]:
        return [self._core.loss_weights[name] for name in self._blob_names]

    @property
    def _inputs(self) -> list[int]:
        return [self._blob_names.index(name) for name in self.inputs]

    @property
    def _outputs(self) -> list[int]:
        return [self._blob_names.index(name) for name in self.outputs]

    def _top_ids(self, layer: int) -> list[int]:
        return [self._blob_names.index(n) for n in self._core.top_names[layer]]

    def _bottom_ids(self, layer: int) -> list[int]:
        return [self._blob_names.index(n) for n in self._core.bottom_names[layer]]


def _layer(core: CoreLayer) -> Layer:
    """The user's own object for a Python layer, as scripts call its methods."""
    return core.user if isinstance(core, Python) else LayerView(core)
