"""Run neighbouring layers as one where every blob comes out the same.

Only in-place neighbours are fused, so that no blob that a user can name loses its
value: a ReLU into the layer before it, BatchNorm with a Scale and a ReLU after it.
Backward of a fused ReLU still runs, from the top's sign; on backends that say so the
backward of the layer before begins with it instead.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from poseidon_caffe.layers.base import Layer
from poseidon_caffe.layers.batch_norm import BatchNorm
from poseidon_caffe.layers.layout import like
from poseidon_caffe.layers.rectifying import Rectifying
from poseidon_caffe.layers.relu import ReLU
from poseidon_caffe.layers.scale import Scale

if TYPE_CHECKING:
    from poseidon_caffe.net.net import Net

__all__ = ["fuse"]


def fuse(net: Net) -> None:
    """Fuse what can be fused; each fused layer skips its own forward."""
    for index, layer in enumerate(net.layers):
        if isinstance(layer, BatchNorm):
            _fuse_batch_norm(net, index, layer)
    for index, layer in enumerate(net.layers):
        if isinstance(layer, ReLU) and not layer.skip_forward and _in_place(net, index):
            maker = _maker(net, index)
            if not isinstance(maker, Rectifying):
                continue
            # With several tops it would rectify those of others too.
            if maker.can_fuse_relu and len(maker.param.top) == 1:
                maker.fuse_relu(layer.slope)
                layer.skip_forward = True
                passes = net.bottom_need_backward[index][0]
                if passes and maker.can_fuse_relu_backward(layer):
                    maker.fuse_relu_backward(layer)
                _reshape(net, maker)


def _in_place(net: Net, index: int) -> bool:
    return net.top_names[index] == net.bottom_names[index]


def _maker(net: Net, index: int) -> Layer | None:
    """The layer that last wrote the blob which layer ``index`` changes in place."""
    name = net.bottom_names[index][0]
    for i in range(index - 1, -1, -1):
        if name in net.top_names[i]:
            return net.layers[i]
    return None


def _next_in_place(net: Net, index: int) -> int | None:
    """The next layer that changes layer ``index``'s top in place, if it is next.

    After split insertion a blob has one reader, so nobody else sees it before.
    """
    name = net.top_names[index][0]
    for i in range(index + 1, len(net.layers)):
        if name in net.bottom_names[i]:
            return i if _in_place(net, i) and len(net.bottom_names[i]) == 1 else None
    return None


def _fuse_batch_norm(net: Net, index: int, layer: BatchNorm) -> None:
    after = _next_in_place(net, index)
    if layer.will_backward and not net.bottom_need_backward[index][0]:
        # It would skip its own backward (propagate_down: false), and what it fuses.
        return
    if after is None or not _fuse_after_batch_norm(net, index, after, layer):
        return
    if layer.will_backward and _in_place(net, index):
        _keep_input(net, index)
    _reshape(net, layer)


def _fuse_after_batch_norm(net: Net, index: int, after: int, layer: BatchNorm) -> bool:
    """Fuse a Scale, a ReLU, or one after the other; whether there was any."""
    scale = net.layers[after]
    if not isinstance(scale, Scale):
        relu = _relu_at(net, after, layer)
        if relu is not None:
            layer.fuse_relu(relu)
        return relu is not None
    if not layer.can_fuse_scale(scale):
        return False
    last = _next_in_place(net, after)
    layer.fuse_scale(scale, None if last is None else _relu_at(net, last, layer))
    _fuse_slots(net, after, index, backward=layer.will_backward)
    return True


def _fuse_slots(net: Net, layer: int, into: int, *, backward: bool) -> None:
    """Note that ``into`` reads a later layer's parameters, as it does its forward.

    With ``backward`` it makes their gradients too, and after that they may change.
    """
    for k, slot in enumerate(net.slots):
        if layer in slot.users:
            ready = min(slot.ready_after, into) if backward else slot.ready_after
            net.slots[k] = replace(slot, ready_after=ready, fused_into=into)


def _relu_at(net: Net, index: int, layer: BatchNorm) -> ReLU | None:
    """Layer ``index`` if it is a ReLU that the batch norm can do too."""
    relu = net.layers[index]
    return relu if isinstance(relu, ReLU) and layer.can_fuse_relu(relu) else None


def _keep_input(net: Net, index: int) -> None:
    """Give an in-place BatchNorm's input memory of its own, as backward reads it.

    The layer that makes it writes there; the blob that users see still ends up
    with what the last of the in-place layers writes.  Gradients stay in place.
    """
    maker = _maker(net, index)
    if maker is None:
        return
    i = net.layers.index(maker)
    if net.top_names[i] == net.bottom_names[i] or len(net.top_names[i]) != 1:
        return
    seen = net.top_blobs[i][0]
    hidden = like(seen)
    hidden.share_diff(seen)
    net.top_blobs[i] = [hidden]
    net.bottom_blobs[index] = [hidden]


def _reshape(net: Net, layer: Layer) -> None:
    """Let a layer rebuild its kernel for what it does now."""
    i = net.layers.index(layer)
    layer.reshape(net.bottom_blobs[i], net.top_blobs[i])
