"""Nets and solvers read in whatever format they are, and brought to today's.

The steps and their order are Caffe's; see :func:`upgrade_net`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from poseidon_caffe.errors import ParseError
from poseidon_caffe.schema import messages
from poseidon_caffe.schema.binary import read_binary
from poseidon_caffe.schema.files import StrPath
from poseidon_caffe.schema.text import parse_prototxt, read_prototxt
from poseidon_caffe.schema.upgrade_v0 import upgrade_v0
from poseidon_caffe.schema.upgrade_v1 import (
    TRANSFORM_FIELDS,
    move_transforms,
    needs_transforms,
    upgrade_v1,
)

__all__ = [
    "needs_upgrade",
    "parse_net",
    "parse_solver",
    "read_net",
    "read_solver",
    "read_weights",
    "upgrade_net",
    "upgrade_solver",
]

_SOLVER_TYPES = {
    "SGD": "SGD",
    "NESTEROV": "Nesterov",
    "ADAGRAD": "AdaGrad",
    "RMSPROP": "RMSProp",
    "ADADELTA": "AdaDelta",
    "ADAM": "Adam",
}
_OLD_DATA = {
    "Data": "data_param",
    "ImageData": "image_data_param",
    "WindowData": "window_data_param",
}
_LEGACY_AXES = 4
_STATISTICS = 3


def read_net(path: StrPath, notes: list[str] | None = None) -> Any:
    """NetParameter of a prototxt file in any of Caffe's formats, upgraded.

    Args:
        path: the file.
        notes: gets one line for each upgrade that was made, for the log.

    Raises:
        ParseError: missing, malformed or contradictory.
    """
    name = os.fspath(path)
    net = read_prototxt(name, messages.NetParameter)
    _note(notes, upgrade_net(net, name))
    return net


def parse_net(text: str, path: str = "<string>", notes: list[str] | None = None) -> Any:
    """NetParameter of a prototxt text; else as :func:`read_net`."""
    net = parse_prototxt(text, messages.NetParameter, path)
    _note(notes, upgrade_net(net, path))
    return net


def read_weights(path: StrPath, notes: list[str] | None = None) -> Any:
    """NetParameter of a binary ``.caffemodel`` of any age, upgraded.

    Weights of old files stand in ``layers``; the result has them in ``layer``.

    Raises:
        ParseError: missing, damaged, cut off, or without layers.
    """
    name = os.fspath(path)
    net = read_binary(name, messages.NetParameter)
    if not len(net.layer) and not len(net.layers):
        raise ParseError(
            f"{name}: no layers in it: this is no .caffemodel (a .solverstate goes to "
            "--snapshot)",
            path=name,
        )
    _note(notes, upgrade_net(net, name))
    return net


def read_solver(path: StrPath, notes: list[str] | None = None) -> Any:
    """SolverParameter of a prototxt file, upgraded.

    Caffe: a missing ``snapshot_prefix`` becomes the file's name without its
    ending, and one that is a folder gets the file's stem below it.

    Raises:
        ParseError: missing, malformed or contradictory.
    """
    name = os.fspath(path)
    solver = read_prototxt(name, messages.SolverParameter)
    _note(notes, upgrade_solver(solver, name))
    if not solver.HasField("snapshot_prefix"):
        solver.snapshot_prefix = str(Path(name).with_suffix(""))
        _note(notes, [f"no snapshot_prefix is given: {solver.snapshot_prefix} is used"])
    elif Path(solver.snapshot_prefix).is_dir():
        below = Path(solver.snapshot_prefix, Path(name).stem)
        solver.snapshot_prefix = str(below)
        _note(notes, [f"snapshot_prefix is a folder: {below} is used"])
    return solver


def parse_solver(
    text: str, path: str = "<string>", notes: list[str] | None = None
) -> Any:
    """SolverParameter of a prototxt text, upgraded; ``snapshot_prefix`` as given."""
    solver = parse_prototxt(text, messages.SolverParameter, path)
    _note(notes, upgrade_solver(solver, path))
    return solver


def needs_upgrade(net: Any) -> bool:
    """Whether any part of a net is in an old format."""
    return bool(len(net.layers) or len(net.input)) or _needs_batch_norm(net)


def upgrade_net(net: Any, path: str = "<net>") -> list[str]:
    """Brings a net to today's format, in place.

    In Caffe's order: V0 layers to V1, transformation settings of V1 data layers
    to ``transform_param``, V1 layers to today's, ``input`` fields to an Input
    layer, learning rates of BatchNorm's statistics to 0.

    Args:
        net: the NetParameter.
        path: name of the file, for messages.

    Returns:
        One line for each upgrade made and each setting that has no effect.

    Raises:
        ParseError: the net contradicts itself.
    """
    notes = []
    if any(layer.HasField("layer") for layer in net.layers):
        notes.append(f"{path}: upgraded from the V0 format ('layers {{ layer {{')")
        notes += upgrade_v0(net, path)
    if needs_transforms(net):
        move_transforms(net)
        notes.append(f"{path}: moved data transformations to transform_param")
    if len(net.layers):
        upgrade_v1(net, path)
        notes.append(f"{path}: upgraded from the V1 format ('layers {{')")
    if len(net.input):
        notes += _upgrade_input(net, path)
    if _needs_batch_norm(net):
        _upgrade_batch_norm(net)
        notes.append(f"{path}: set lr_mult and decay_mult of BatchNorm statistics to 0")
    return notes + _without_effect(net, path)


def upgrade_solver(solver: Any, path: str = "<solver>") -> list[str]:
    """Replaces the old ``solver_type`` by ``type``, in place.

    Returns:
        One line if that was done.

    Raises:
        ParseError: both are given.
    """
    if not solver.HasField("solver_type"):
        return []
    old = messages.enum_name(solver, "solver_type")
    if solver.HasField("type"):
        raise ParseError(
            f"{path}: both 'solver_type: {old}' (old) and 'type: \"{solver.type}\"' "
            "are given: keep 'type' only",
            path=path,
        )
    solver.type = _SOLVER_TYPES[old]
    solver.ClearField("solver_type")
    return [f"{path}: upgraded 'solver_type: {old}' to 'type: \"{solver.type}\"'"]


def _note(notes: list[str] | None, lines: list[str]) -> None:
    if notes is not None:
        notes += lines


def _upgrade_input(net: Any, path: str) -> list[str]:
    """Makes ``input`` and its shapes an Input layer at the front."""
    names = list(net.input)
    shapes = _input_shapes(net, path)
    if shapes:
        first = messages.LayerParameter(name="input", type="Input", top=names)
        first.input_param.shape.extend(shapes)
        net.layer.insert(0, first)
    for field in ("input", "input_shape", "input_dim"):
        net.ClearField(field)
    done = "to an Input layer" if shapes else "to nothing, as no shape is given"
    return [f"{path}: upgraded input fields {done}: {', '.join(names)}"]


def _input_shapes(net: Any, path: str) -> list[Any]:
    """One BlobShape an input, from either of the two old ways.

    Caffe parity: ``input_shape`` wins over ``input_dim``; too many have no effect.
    """
    count, dims, shapes = len(net.input), list(net.input_dim), list(net.input_shape)
    wrong = ""
    if shapes and len(shapes) < count:
        wrong = f"{count} 'input' need {count} 'input_shape', not {len(shapes)}"
    elif not shapes and dims and len(dims) < _LEGACY_AXES * count:
        wrong = (
            f"{count} 'input' need {_LEGACY_AXES * count} 'input_dim' (four each), not "
            f"{len(dims)}"
        )
    if wrong:
        raise ParseError(f"{path}: {wrong}", path=path)
    if shapes or not dims:
        return shapes[:count]
    starts = [_LEGACY_AXES * i for i in range(count)]
    return [
        messages.BlobShape(dim=dims[start : start + _LEGACY_AXES]) for start in starts
    ]


def _statistics(layer: Any) -> bool:
    """Whether a BatchNorm names the three statistics as if they were learned."""
    return layer.type == "BatchNorm" and len(layer.param) == _STATISTICS


def _needs_batch_norm(net: Any) -> bool:
    return any(
        not spec.HasField(name) or getattr(spec, name) != 0
        for layer in net.layer
        if _statistics(layer)
        for spec in layer.param
        for name in ("lr_mult", "decay_mult")
    )


def _upgrade_batch_norm(net: Any) -> None:
    for layer in filter(_statistics, net.layer):
        for spec in layer.param:
            spec.lr_mult = 0
            spec.decay_mult = 0


def _without_effect(net: Any, path: str) -> list[str]:
    """Notes on settings that Caffe reads in no layer of today's format."""
    notes = []
    for layer in net.layer:
        parameter = _OLD_DATA.get(layer.type)
        if parameter is None or not layer.HasField(parameter):
            continue
        values = getattr(layer, parameter)
        old = [name for name in TRANSFORM_FIELDS if values.HasField(name)]
        if old:
            notes.append(
                f"{path}: layer '{layer.name}': {', '.join(old)} in {parameter} take "
                "no effect (nor in Caffe): move them to transform_param"
            )
    return notes
