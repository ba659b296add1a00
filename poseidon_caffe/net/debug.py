"""``debug_info``, mean magnitudes in Caffe's lines, and where numbers went bad."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from poseidon_caffe.backend.blob import Blob

if TYPE_CHECKING:
    from poseidon_caffe.net.net import Net

__all__ = ["DebugListener", "DebugLog", "first_non_finite"]

DebugListener = Callable[[str], None]


def first_non_finite(net: Net) -> str | None:
    """Name the first parameter or blob that holds a NaN or inf; see `Net`'s.

    Without the pool: the other workers may look elsewhere, or not at all.
    """
    pool = net.pool
    net.set_pool(None)
    try:
        return _first_non_finite(net)
    finally:
        net.set_pool(pool)


def _first_non_finite(net: Net) -> str | None:
    for i, layer in enumerate(net.layers):
        for k, blob in enumerate(layer.blobs):
            if net.ops.first_bad(blob.data) >= 0:
                return f"parameter {k} of layer {layer.name}"
        if net.bottom_blobs[i]:
            layer.forward(net.bottom_blobs[i], net.top_blobs[i])
        for name, blob in zip(net.top_names[i], net.top_blobs[i], strict=True):
            if net.ops.first_bad(blob.data) >= 0:
                return f"blob {name} (top of layer {layer.name}, {layer.type})"
    return None


class DebugLog:
    """Makes the lines and hands them to ``listener``."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.listener: DebugListener | None = None

    def _say(self, line: str) -> None:
        if self.listener is not None:
            self.listener(line)

    def _mean(self, blob: Blob, *, diff: bool = False) -> str:
        array = blob.diff if diff else blob.data
        return f"{self.net.ops.asum(array) / max(blob.count, 1):g}"

    def forward(self, index: int) -> None:
        """After a layer's forward: its tops and parameters."""
        net = self.net
        layer = f"    [Forward] Layer {net.layer_names[index]}"
        for name, blob in zip(net.top_names[index], net.top_blobs[index], strict=True):
            shown = "(automatic)" if name.startswith("(automatic)") else name
            self._say(f"{layer}, top blob {shown} data: {self._mean(blob)}")
        specs = net.layers[index].param.param
        for i, blob in enumerate(net.layers[index].blobs):
            # Caffe: shared parameters by their name here, by number in backward.
            shown = (specs[i].name if i < len(specs) else "") or str(i)
            self._say(f"{layer}, param blob {shown} data: {self._mean(blob)}")

    def backward(self, index: int) -> None:
        """After a layer's backward: the diffs it made."""
        net = self.net
        layer = f"    [Backward] Layer {net.layer_names[index]}"
        for name, blob, need in zip(
            net.bottom_names[index],
            net.bottom_blobs[index],
            net.bottom_need_backward[index],
            strict=True,
        ):
            if need:
                mean = self._mean(blob, diff=True)
                self._say(f"{layer}, bottom blob {name} diff: {mean}")
        wants = net.layers[index].param_propagate_down
        for i, blob in enumerate(net.layers[index].blobs):
            if wants[i]:
                self._say(
                    f"{layer}, param blob {i} diff: {self._mean(blob, diff=True)}"
                )

    def whole_net(self) -> None:
        """After the whole backward pass: norms over all parameters."""
        ops, learnable = self.net.ops, self.net.learnable
        asum_data = sum(ops.asum(b.data) for b in learnable)
        asum_diff = sum(ops.asum(b.diff) for b in learnable)
        sumsq_data = sum(ops.sumsq(b.data) for b in learnable)
        sumsq_diff = sum(ops.sumsq(b.diff) for b in learnable)
        self._say(
            "    [Backward] All net params (data, diff): "
            f"L1 norm = ({asum_data:g}, {asum_diff:g}); "
            f"L2 norm = ({math.sqrt(sumsq_data):g}, {math.sqrt(sumsq_diff):g})"
        )
