"""What Caffe logs while it builds a net, told from the net that was built."""

from __future__ import annotations

from typing import Any

from poseidon_caffe.net.net import Net
from poseidon_caffe.report import tags
from poseidon_caffe.report.glog import Glog, format_g
from poseidon_caffe.schema.messages import NetParameter
from poseidon_caffe.schema.text import to_prototxt
from poseidon_caffe.types import Shape

__all__ = ["log_net", "shape_text"]


def shape_text(shape: Shape, count: int) -> str:
    """``64 1 28 28 (50176)``, as Caffe's Blob::shape_string writes it."""
    return "".join(f"{length} " for length in shape) + f"({count})"


def log_net(log: Glog, net: Net) -> None:
    """Write the construction lines of ``net``.

    Caffe: the same lines in the same order, after the net is built instead of
    meanwhile, and without those about layers that the net state leaves out.
    """
    text = to_prototxt(_as_written(net.param)).rstrip("\n")
    log.info(tags.NET_PARAMETERS, f"Initializing net from parameters: \n{text}")
    memory_bytes = 0
    for index in range(len(net.layers)):
        memory_bytes = _log_layer(log, net, index, memory_bytes)
    _log_backward(log, net)
    for name in net.output_names:
        log.info(tags.NET_OUTPUT, f"This network produces output {name}")
    log.info(tags.NET_DONE, "Network initialization done.")


def _as_written(param: Any) -> Any:
    """``param`` as Caffe prints it: before splits and phases are filled in."""
    made = {x.name for x in param.layer if x.type == "Split" and _is_made(x)}
    back = {top: x.bottom[0] for x in param.layer if x.name in made for top in x.top}
    bare = NetParameter()
    bare.CopyFrom(param)
    del bare.layer[:]
    for layer in param.layer:
        if layer.name in made:
            continue
        twin = bare.layer.add()
        twin.CopyFrom(layer)
        del twin.bottom[:]
        twin.bottom.extend(back.get(name, name) for name in layer.bottom)
        if twin.phase == param.state.phase:
            twin.ClearField("phase")
    return bare


def _is_made(layer: Any) -> bool:
    """Whether a Split layer was inserted by the net, by its name."""
    return bool(layer.name.endswith("_split")) and all(
        top.startswith(f"{layer.name}_") or top == layer.bottom[0] for top in layer.top
    )


def _log_layer(log: Glog, net: Net, index: int, memory_bytes: int) -> int:
    """Write one layer's lines; returns the memory counted so far."""
    name = net.layer_names[index]
    bottoms, tops = net.bottom_names[index], net.top_names[index]
    log.info(tags.CREATING, f"Creating layer {name}")
    log.info(tags.NET_LAYER, f"Creating Layer {name}")
    for bottom in bottoms:
        log.info(tags.BOTTOM, f"{name} <- {bottom}")
    for top in tops:
        if top in bottoms:
            log.info(tags.TOP_IN_PLACE, f"{name} -> {top} (in-place)")
        else:
            shown = "(automatic)" if top.startswith("(automatic)") else top
            log.info(tags.TOP, f"{name} -> {shown}")
    log.info(tags.SETTING_UP, f"Setting up {name}")
    weights = net.layers[index].loss_weights
    for blob, weight in zip(net.top_blobs[index], weights, strict=True):
        log.info(tags.TOP_SHAPE, f"Top shape: {shape_text(blob.shape, blob.count)}")
        if weight:
            log.info(tags.LOSS_WEIGHT, f"    with loss weight {format_g(weight)}")
        memory_bytes += blob.count * blob.dtype.itemsize
    log.info(tags.MEMORY, f"Memory required for data: {memory_bytes}")
    return memory_bytes


def _log_backward(log: Glog, net: Net) -> None:
    for name, need in zip(
        reversed(net.layer_names), reversed(net.layer_need_backward), strict=True
    ):
        if need:
            log.info(tags.NEEDS_BACKWARD, f"{name} needs backward computation.")
        else:
            log.info(tags.NO_BACKWARD, f"{name} does not need backward computation.")
