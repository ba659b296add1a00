"""A Caffe net as PyTorch code: each layer as its functional equivalent.

Written as a PyTorch user would: ReLU in place, BatchNorm with its Scale as one
``batch_norm``, losses by ``cross_entropy``; dropout where the net has it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name

from benchmarks.nets import find, sample, training_net

__all__ = ["TorchNet", "prepare"]

Blobs = dict[str, torch.Tensor]


class TorchNet(torch.nn.Module):
    """Runs a NetParameter's layers on PyTorch tensors, by blob name."""

    def __init__(self, param: Any, inputs: Blobs, *, channels_last: bool) -> None:
        super().__init__()
        self._steps: list[Callable[[Blobs], None]] = []
        self._losses: list[tuple[str, float]] = []
        self._channels_last = channels_last
        layers = list(param.layer)
        blobs = dict(inputs)
        skip = False
        for i, layer in enumerate(layers):
            if skip or layer.type in {"Input", "Accuracy"}:
                skip = False
                continue
            after = layers[i + 1] if i + 1 < len(layers) else None
            if layer.type == "BatchNorm" and after is not None:
                skip = after.type == "Scale" and list(after.bottom) == list(layer.top)
            before = len(self._steps)
            getattr(self, f"_{layer.type.lower()}")(layer, blobs)
            for step in self._steps[before:]:
                with torch.no_grad():
                    step(blobs)
        if channels_last:
            self.to(memory_format=torch.channels_last)

    def forward(self, inputs: Blobs) -> torch.Tensor:
        """The weighted sum of the losses."""
        blobs = dict(inputs)
        for step in self._steps:
            step(blobs)
        return sum(
            (weight * blobs[name] for name, weight in self._losses),
            start=torch.zeros(()),
        )

    def _module(self, layer: Any, module: torch.nn.Module) -> None:
        self.add_module(layer.name.replace(".", "_").replace("/", "_"), module)
        bottom, top = layer.bottom[0], layer.top[0]
        self._steps.append(lambda b: b.__setitem__(top, module(b[bottom])))

    def _function(self, layer: Any, function: Callable[..., torch.Tensor]) -> None:
        bottoms, top = list(layer.bottom), layer.top[0]
        self._steps.append(
            lambda b: b.__setitem__(top, function(*(b[name] for name in bottoms)))
        )

    def _convolution(self, layer: Any, blobs: Blobs) -> None:
        p = layer.convolution_param
        pad = p.pad[0] if p.pad else 0
        stride = p.stride[0] if p.stride else 1
        conv = torch.nn.Conv2d(
            blobs[layer.bottom[0]].shape[1], p.num_output, p.kernel_size[0],
            stride=stride, padding=pad, groups=p.group, bias=p.bias_term,
        )  # fmt: skip
        self._module(layer, conv)

    def _innerproduct(self, layer: Any, blobs: Blobs) -> None:
        x = blobs[layer.bottom[0]]
        linear = torch.nn.Linear(x[0].numel(), layer.inner_product_param.num_output)
        self._module(layer, torch.nn.Sequential(torch.nn.Flatten(), linear))

    def _batchnorm(self, layer: Any, blobs: Blobs) -> None:
        self._module(layer, torch.nn.BatchNorm2d(blobs[layer.bottom[0]].shape[1]))

    def _pooling(self, layer: Any, blobs: Blobs) -> None:
        p = layer.pooling_param
        size = blobs[layer.bottom[0]].shape[2:]
        kernel = size if p.global_pooling else p.kernel_size
        pool = F.avg_pool2d if p.pool else F.max_pool2d
        ceil = not p.global_pooling
        self._function(
            layer, lambda x: pool(x, kernel, p.stride, p.pad, ceil_mode=ceil)
        )

    def _relu(self, layer: Any, blobs: Blobs) -> None:
        self._function(layer, lambda x: F.relu(x, inplace=True))

    def _dropout(self, layer: Any, blobs: Blobs) -> None:
        ratio = layer.dropout_param.dropout_ratio
        self._function(layer, lambda x: F.dropout(x, ratio))

    def _lrn(self, layer: Any, blobs: Blobs) -> None:
        p = layer.lrn_param
        self._function(
            layer,
            lambda x: F.local_response_norm(x, p.local_size, p.alpha, p.beta, p.k),
        )

    def _concat(self, layer: Any, blobs: Blobs) -> None:
        self._function(layer, lambda *xs: torch.cat(xs, 1))

    def _eltwise(self, layer: Any, blobs: Blobs) -> None:
        self._function(layer, lambda x, y: x + y)

    def _softmaxwithloss(self, layer: Any, blobs: Blobs) -> None:
        self._function(layer, F.cross_entropy)
        weight = layer.loss_weight[0] if layer.loss_weight else 1.0
        self._losses.append((layer.top[0], float(weight)))


def prepare(name: str, threads: int, form: str) -> tuple[TorchNet, Blobs]:
    """A case's net in its ``plain`` or channels-``last`` form, and its inputs."""
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    case, channels_last = find(name), form == "last"
    param = training_net(case)
    images, labels = (torch.from_numpy(a) for a in sample(case))
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    names = next(layer.top for layer in param.layer if layer.type == "Input")
    inputs = {names[0]: images, names[1]: labels}
    return TorchNet(param, inputs, channels_last=channels_last), inputs
