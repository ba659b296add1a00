"""Backward of one layer, from scaled losses where a scale is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from poseidon_caffe.backend.protocols import LossScale
from poseidon_caffe.net.building import out_of_memory

if TYPE_CHECKING:
    from poseidon_caffe.net.net import Net

__all__ = ["run_backward"]


def run_backward(net: Net, index: int) -> None:
    """Run layer ``index`` backward, the gradients of losses that it makes scaled.

    Afterwards those are the loss weights again, which forward adds up with.

    Raises:
        LayerError: it does not fit in memory.
    """
    layer, scale = net.layers[index], net.loss_scale
    if scale is not None:
        _weigh(net, index, scale, scaled=True)
    need, bottom = net.bottom_need_backward[index], net.bottom_blobs[index]
    try:
        layer.backward(net.top_blobs[index], need, bottom)
    except MemoryError as error:
        raise out_of_memory(layer, bottom, error, net) from error
    if scale is not None:
        _weigh(net, index, scale, scaled=False)


def _weigh(net: Net, index: int, scale: LossScale, *, scaled: bool) -> None:
    weights = net.layers[index].loss_weights
    for weight, blob in zip(weights, net.top_blobs[index], strict=True):
        if weight:
            scale.weigh(blob.diff, weight, scaled=scaled)
