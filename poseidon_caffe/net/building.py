"""From a NetParameter to layers and blobs, one layer after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.backend.gpu.reasons import describe_oom
from poseidon_caffe.backend.memory import NoRoomError
from poseidon_caffe.errors import LayerError, PoseidonError, ShapeError
from poseidon_caffe.layers.base import Layer, LayerContext
from poseidon_caffe.layers.registry import layer_class
from poseidon_caffe.net.graph import Wiring, backward_plan, connect
from poseidon_caffe.net.params import ParamTable
from poseidon_caffe.net.room import batch_that_fits, parameters_fit
from poseidon_caffe.types import Phase

__all__ = ["Built", "build", "fill_loss_weights", "out_of_memory"]


@dataclass
class Built:
    """Everything a net consists of, before it runs.

    Attributes:
        blobs: by name, in the order they appear (an in-place top appears once).
        available: names of blobs that no layer reads: the net's outputs.
    """

    layers: list[Layer] = field(default_factory=list)
    wiring: list[Wiring] = field(default_factory=list)
    bottoms: list[list[Blob]] = field(default_factory=list)
    tops: list[list[Blob]] = field(default_factory=list)
    blobs: dict[str, Blob] = field(default_factory=dict)
    table: ParamTable = field(default_factory=ParamTable)
    available: dict[str, int] = field(default_factory=dict)


def build(param: Any, context: LayerContext, dtypes: Mapping[str, np.dtype]) -> Built:
    """Make and set up every layer of a filtered net with splits inserted.

    Args:
        param: the net.
        context: for every layer.
        dtypes: what blobs are stored in that are not of ``context.dtype``.

    Raises:
        GraphError: layers that do not connect, parameters that cannot be shared.
        LayerError: unknown types, bad settings, shapes that do not fit.
    """
    built = Built()
    plain = _plain_blobs(param)
    need_blob: dict[str, bool] = {}
    for index, layer_param in enumerate(param.layer):
        if not layer_param.HasField("phase"):
            layer_param.phase = int(context.phase)
        layer = _make_layer(layer_param, context)
        wire = connect(layer_param, built.available, set(built.blobs))
        _add_automatic_tops(layer, wire)
        layer.check_arity(len(wire.bottom), len(wire.top))
        bottom = [built.blobs[name] for name in wire.bottom]
        top = _make_tops(wire, built, context, plain, dtypes)
        _set_up(layer, bottom, top)
        built.layers.append(layer)
        built.wiring.append(wire)
        built.bottoms.append(bottom)
        built.tops.append(top)
        _plan_gradients(layer, wire, need_blob)
        built.table.add_layer(index, layer)
    backward_plan(built.layers, built.wiring, force=param.force_backward)
    return built


def _make_layer(layer_param: Any, context: LayerContext) -> Layer:
    given = len(layer_param.propagate_down)
    if given and given != len(layer_param.bottom):
        msg = (
            f'layer "{layer_param.name}" ({layer_param.type}): propagate_down must be '
            f"given once per bottom ({len(layer_param.bottom)}), not {given} times"
        )
        raise LayerError(msg)
    cls = layer_class(layer_param.type, where=layer_param.name)
    try:
        return cls(layer_param, context.in_phase(Phase(layer_param.phase)))
    except LayerError as error:
        _name(error, layer_param)
        raise


def _add_automatic_tops(layer: Layer, wire: Wiring) -> None:
    if not layer.auto_top_blobs:
        return
    while len(wire.top) < max(layer.min_top, layer.num_top or 0):
        # Not available to other layers, nor an output of the net, as in Caffe.
        wire.top.append(f"(automatic) {layer.name}/{len(wire.top)}")
        wire.in_place.append(False)


def _plain_blobs(param: Any) -> set[str]:
    """Names of the blobs that a user's code sees, which are stored in C order."""
    found: set[str] = set()
    for layer in param.layer:
        with suppress(LayerError):  # raised again once it is the layer's turn
            if layer_class(layer.type, where=layer.name).runs_user_code:
                found.update(layer.bottom, layer.top)
    return found


def _make_tops(
    wire: Wiring,
    built: Built,
    context: LayerContext,
    plain: set[str],
    dtypes: Mapping[str, np.dtype],
) -> list[Blob]:
    tops = []
    for name, in_place in zip(wire.top, wire.in_place, strict=True):
        if not in_place:
            layout = context.ops.channels_last and name not in plain
            built.blobs[name] = Blob(
                dtype=dtypes.get(name, context.dtype),
                channels_last=layout,
                memory=context.ops.memory,
            )
        tops.append(built.blobs[name])
    return tops


def _set_up(layer: Layer, bottom: list[Blob], top: list[Blob]) -> None:
    before = [blob.shape for blob in bottom]
    try:
        layer.setup(bottom, top)
        layer.reshape(bottom, top)
    except LayerError as error:
        _name(error, layer.param)
        raise
    except PoseidonError:
        raise
    except (MemoryError, OverflowError) as error:
        if layer.runs_user_code:
            raise
        raise out_of_memory(layer, bottom, error) from error
    if before != [blob.shape for blob in bottom]:
        problem = "cannot work in place: its top has another shape than its bottom"
        raise ShapeError(layer.describe(problem))
    _check_sizes(layer, top)
    layer.loss_weights = _loss_weights(layer, len(top))
    fill_loss_weights(layer, top)


def _name(error: LayerError, param: Any) -> None:
    """Let ``error`` tell the layer too, if it does not yet (a blob knows none)."""
    if f'"{param.name}"' not in str(error):
        error.args = (f'layer "{param.name}" ({param.type}): {error}',)


def _check_sizes(layer: Layer, top: list[Blob]) -> None:
    """Refuse a top that no memory holds, before anything allocates it.

    Caffe parity: its blobs have at most 2^31 - 1 elements; here they may have as
    many as the machine has memory for.
    """
    limit = layer.ops.memory.limit_bytes()
    for blob in top:
        size = blob.count * blob.dtype.itemsize
        if size > limit and not layer.ops.memory.is_host:
            batch = blob.shape[0] if blob.shape else None
            fits = None if batch is None else limit * batch // size
            raise LayerError(describe_oom(layer.name, size, limit, batch, fits))
        if size > limit:
            msg = layer.describe(
                f"its top of shape {blob.shape} needs {size / 2**30:.1f} GiB, and this "
                f"machine has {limit / 2**30:.1f} GiB: is a number in its settings or "
                "in the data's shape wrong?"
            )
            raise LayerError(msg)


def out_of_memory(
    layer: Layer,
    bottom: Sequence[Blob],
    error: BaseException,
    net: Any = None,
) -> LayerError:
    """What to say when ``layer`` asked for more memory than there is."""
    if isinstance(error, NoRoomError):
        batch = bottom[0].shape[0] if bottom and bottom[0].shape else None
        if net is None:  # it is being built, which makes little but parameters
            own = sum(blob.count * blob.dtype.itemsize for blob in layer.blobs)
            fits = None if parameters_fit(own, error.free_bytes) else 0
        else:
            fits = None if batch is None else batch_that_fits(net, batch, error)
        return LayerError(
            describe_oom(layer.name, error.wanted_bytes, error.free_bytes, batch, fits)
        )
    shapes = ", ".join(str(blob.shape) for blob in bottom)
    detail = f": {error}" if str(error) else ""
    return LayerError(
        layer.describe(f"does not fit in memory (bottom shapes {shapes}){detail}")
    )


def _loss_weights(layer: Layer, num_top: int) -> list[float]:
    given = list(layer.param.loss_weight)
    if given and len(given) != num_top:
        msg = layer.describe(
            f"loss_weight must be given once per top ({num_top}), "
            f"not {len(given)} times"
        )
        raise LayerError(msg)
    return given or [layer.default_loss_weight(j) for j in range(num_top)]


def fill_loss_weights(layer: Layer, top: list[Blob]) -> None:
    """Write each loss weight into its top's diff, where backward starts."""
    for blob, weight in zip(top, layer.loss_weights, strict=True):
        if weight:
            blob.mutable_cpu_diff[...] = weight


def _plan_gradients(layer: Layer, wire: Wiring, need_blob: dict[str, bool]) -> None:
    """Decide, from below, whether the layer and its bottoms want gradients."""
    given = list(layer.param.propagate_down)
    wire.bottom_need = [
        given[j] if given else need_blob.get(name, False)
        for j, name in enumerate(wire.bottom)
    ]
    wire.need = any(need_blob.get(name, False) for name in wire.bottom)
    specs = layer.param.param
    for i in range(len(layer.blobs)):
        wants = i >= len(specs) or specs[i].lr_mult != 0
        layer.param_propagate_down[i] = layer.param_propagate_down[i] and wants
        wire.need = wire.need or layer.param_propagate_down[i]
    for name in wire.top:
        need_blob[name] = wire.need
