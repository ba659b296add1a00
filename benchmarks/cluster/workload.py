"""What the emulated nets compute and communicate: layers, times, parameters."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.nets import MODELS
from poseidon_caffe.net.filtering import filter_net, net_state
from poseidon_caffe.schema.upgrade import read_net
from poseidon_caffe.types import Phase, Shape

__all__ = ["WORKLOADS", "LayerWork", "Workload", "workload"]

# The ATC'17 figures: 34.6 images/s of Caffe on one Titan X.
_VGG_SECONDS, _VGG_BATCH, _VGG_CLASSES = 0.925, 32, 21841
# AlexNet, batch 16, 2 threads, milliseconds forward and backward: `poseidon time` on
# the machine of docs/performance.md, layers without parameters counted to the one
# before them, scaled to the 357 ms an iteration takes there without the timer.
_ALEXNET_SECONDS, _ALEXNET_BATCH = 0.357, 16
_ALEXNET_MS = {
    "conv1": (63.7, 80.5), "conv2": (91.7, 187.0), "conv3": (59.1, 124.3),
    "conv4": (44.3, 101.9), "conv5": (34.6, 69.0), "fc6": (37.9, 70.0),
    "fc7": (17.6, 42.6), "fc8": (3.7, 14.1),
}  # fmt: skip


@dataclass(frozen=True)
class LayerWork:
    """One layer with parameters, and those without that follow it.

    Attributes:
        name: of the layer.
        weights: shape of the weights; the bias is as long as their first axis.
        flops: multiply-adds of one image, forward.
        is_product: an inner product, which offers factors.
        forward_s, backward_s: of a whole batch.
    """

    name: str
    weights: Shape
    flops: int
    is_product: bool
    forward_s: float = 0.0
    backward_s: float = 0.0


@dataclass(frozen=True)
class Workload:
    """A net at a batch size.

    Attributes:
        name: of the net.
        batch: images of one worker and iteration.
        layers: in forward order.
    """

    name: str
    batch: int
    layers: tuple[LayerWork, ...]

    @property
    def compute_s(self) -> float:
        """Of one iteration."""
        return sum(layer.forward_s + layer.backward_s for layer in self.layers)

    @property
    def flops_per_s(self) -> float:
        """Multiply-adds: backward has twice as many as forward."""
        return 3 * self.batch * sum(x.flops for x in self.layers) / self.compute_s

    @property
    def count(self) -> int:
        """Parameters, biases included."""
        return sum(math.prod(x.weights) + x.weights[0] for x in self.layers)

    def slowed(self, factor: float) -> Workload:
        """The same with ``factor`` times the compute time: slow motion."""
        return replace(
            self,
            layers=tuple(
                replace(
                    layer,
                    forward_s=layer.forward_s * factor,
                    backward_s=layer.backward_s * factor,
                )
                for layer in self.layers
            ),
        )


def workload(name: str) -> Workload:
    """The workload called ``name``, one of `WORKLOADS`.

    Raises:
        KeyError: there is none.
    """
    return WORKLOADS[name]()


def _vgg19_22k() -> Workload:
    """VGG19 with an output for each of ImageNet's 21841 classes, times by FLOPs."""
    layers = tuple(_layers("vgg19", {"fc8": _VGG_CLASSES}))
    whole = sum(layer.flops for layer in layers)
    # Backward computes two products where forward computes one.
    timed = tuple(
        replace(
            layer,
            forward_s=_VGG_SECONDS * layer.flops / whole / 3,
            backward_s=_VGG_SECONDS * layer.flops / whole * 2 / 3,
        )
        for layer in layers
    )
    return Workload("vgg19-22k", _VGG_BATCH, timed)


def _alexnet() -> Workload:
    """AlexNet with the times measured."""
    unit_s = _ALEXNET_SECONDS / sum(map(sum, _ALEXNET_MS.values()))
    timed = tuple(
        replace(layer, forward_s=forward * unit_s, backward_s=backward * unit_s)
        for layer in _layers("alexnet", {})
        for forward, backward in [_ALEXNET_MS[layer.name]]
    )
    return Workload("alexnet", _ALEXNET_BATCH, timed)


WORKLOADS = {"vgg19-22k": _vgg19_22k, "alexnet": _alexnet}


def _layers(model: str, outputs: dict[str, int]) -> Iterator[LayerWork]:
    """Layers with parameters of a plain chain of the model zoo, without times.

    Args:
        model: folder of ``models/``.
        outputs: ``num_output`` of layers where it is another.
    """
    param = read_net(MODELS / model / "train_val.prototxt")
    channels, size = 3, 0
    for layer in filter_net(param, net_state(Phase.TRAIN)).layer:
        if layer.type == "Data":
            size = layer.transform_param.crop_size
        elif layer.type == "Convolution":
            p = layer.convolution_param
            size = _windows(size, p) + 1
            shape = (p.num_output, channels // p.group, *[p.kernel_size[0]] * 2)
            flops = math.prod(shape) * size * size
            yield LayerWork(layer.name, shape, flops, is_product=False)
            channels = p.num_output
        elif layer.type == "Pooling":
            size = math.ceil(_windows(size, layer.pooling_param, exact=True)) + 1
        elif layer.type == "InnerProduct":
            count = outputs.get(layer.name, layer.inner_product_param.num_output)
            shape = (count, channels * size * size)
            yield LayerWork(layer.name, shape, math.prod(shape), is_product=True)
            channels, size = count, 1


def _windows(size: int, p: Any, *, exact: bool = False) -> Any:
    """How often the window moves on; ``exact``: as a fraction."""

    def one(value: Any, default: int) -> int:
        """A field that convolutions repeat and pooling does not."""
        if isinstance(value, int):
            return value or default
        return int(value[0]) if len(value) else default

    room = size + 2 * one(p.pad, 0) - one(p.kernel_size, 1)
    stride = one(p.stride, 1)
    return room / stride if exact else room // stride
