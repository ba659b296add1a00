"""Where a pixel of one blob of a `NetSpec` lies in another, and crops that align them.

A map is (axis, scale, shift): along the axes from ``axis`` on, pixel ``i`` of the
blob below lies at ``scale * i + shift`` of the blob above. Layers without geometry
have the map (None, 1, 0). Scales and shifts are arrays, one number an axis or one
for all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from poseidon_caffe.caffe.net_spec import Function, Top, layers
from poseidon_caffe.caffe.value_errors import CropError
from poseidon_caffe.errors import UsageError

__all__ = [
    "PASS_THROUGH_LAYERS",
    "AxisMismatchException",
    "UndefinedMapException",
    "compose",
    "conv_params",
    "coord_map",
    "coord_map_from_to",
    "crop",
    "crop_params",
    "inverse",
]

PASS_THROUGH_LAYERS = [
    "AbsVal",
    "BatchNorm",
    "Bias",
    "BNLL",
    "Clip",
    "Dropout",
    "Eltwise",
    "ELU",
    "Log",
    "LRN",
    "Exp",
    "MVN",
    "Power",
    "ReLU",
    "PReLU",
    "Scale",
    "Sigmoid",
    "Split",
    "Swish",
    "TanH",
    "Threshold",
]
"""Types whose tops have the coordinates of their bottoms."""

_LEGACY = ("pad_h", "pad_w", "kernel_h", "kernel_w", "stride_h", "stride_w")
_SPATIAL_AXIS = 2


class UndefinedMapException(UsageError):
    """A layer of this type has no map of coordinates."""


class AxisMismatchException(UsageError):
    """Two maps begin at different axes."""


class _Map(NamedTuple):
    axis: int | None
    scale: Any
    shift: Any


_IDENTITY = _Map(None, 1, 0)


def _params(fn: Function, name: str) -> Mapping[str, Any]:
    """The settings of a layer, be they given bare, as a dict or as a message."""
    own = fn.params.get(name, fn.params)
    if isinstance(own, Mapping):
        return own
    return {field.name: value for field, value in own.ListFields()}


def _array(values: Any) -> Any:
    iterable = isinstance(values, Iterable)
    return np.array(list(values) if iterable else values, ndmin=1)


def conv_params(fn: Function) -> tuple[int, Any, Any, Any]:
    """Axis, stride, extent of the dilated kernel and padding of a sliding window.

    Raises:
        CropError: sizes are given by the old ``_h`` and ``_w`` fields.
        UndefinedMapException: no ``kernel_size``, as in global pooling.
    """
    name = "pooling_param" if fn.type_name == "Pooling" else "convolution_param"
    given = _params(fn, name)
    old = sorted(set(_LEGACY) & {*given, *fn.params})
    if old:
        msg = f"{fn.type_name}: crops do not know the old {', '.join(old)}"
        raise CropError(msg)
    if "kernel_size" not in given:
        msg = f"{fn.type_name}: no kernel_size, so pixels have no place"
        raise UndefinedMapException(msg)
    kernel, dilation = _array(given["kernel_size"]), _array(given.get("dilation", 1))
    stride, pad = _array(given.get("stride", 1)), _array(given.get("pad", 0))
    return given.get("axis", 1), stride, (kernel - 1) * dilation + 1, pad


def crop_params(fn: Function) -> tuple[int, Any]:
    """First cropped axis and offsets of a Crop layer."""
    given = _params(fn, "crop_param")
    return given.get("axis", _SPATIAL_AXIS), _array(given.get("offset", 0))


def coord_map(fn: Function) -> _Map:
    """The map from a layer's bottoms to its tops.

    Raises:
        UndefinedMapException: layers of this type have none.
    """
    if fn.type_name in ("Convolution", "Pooling", "Im2col"):
        axis, stride, kernel, pad = conv_params(fn)
        return _Map(axis, 1 / stride, (pad - (kernel - 1) / 2) / stride)
    if fn.type_name == "Deconvolution":
        axis, stride, kernel, pad = conv_params(fn)
        return _Map(axis, stride, (kernel - 1) / 2 - pad)
    if fn.type_name in PASS_THROUGH_LAYERS:
        return _IDENTITY
    if fn.type_name == "Crop":
        axis, offset = crop_params(fn)
        return _Map(axis - 1, 1, -offset)  # others count from the axis before
    raise UndefinedMapException(f"layers of type {fn.type_name} map no coordinates")


def compose(base_map: Any, next_map: Any) -> _Map:
    """The map that is ``next_map``, then ``base_map``.

    Raises:
        AxisMismatchException: they begin at different axes.
    """
    base, other = _Map(*base_map), _Map(*next_map)
    if None not in (base.axis, other.axis) and base.axis != other.axis:
        msg = f"maps that begin at axes {base.axis} and {other.axis} do not compose"
        raise AxisMismatchException(msg)
    axis = other.axis if base.axis is None else base.axis
    return _Map(axis, base.scale * other.scale, base.scale * other.shift + base.shift)


def inverse(coord_map: Any) -> _Map:
    """The map in the other direction."""
    axis, scale, shift = coord_map
    return _Map(axis, 1 / scale, -shift / scale)


def _below(top: Top, known: dict[Top, _Map]) -> list[Top]:
    """Blobs that ``top`` is made of and that are new; adds their maps to ``known``."""
    bottoms = top.fn.inputs
    if top.fn.type_name == "Crop":
        bottoms = bottoms[:1]  # the second one gives the size only
    try:
        new = [bottom for bottom in bottoms if bottom not in known]
        known.update((each, compose(known[top], coord_map(top.fn))) for each in new)
    except UndefinedMapException:
        return []
    return new


def coord_map_from_to(top_from: Top, top_to: Top) -> _Map:
    """The map from one blob's pixels to another's, by a blob that both come from.

    Returns:
        (axis, scale, shift): pixel ``i`` of ``top_from`` lies at
        ``scale * i + shift`` of ``top_to``.

    Raises:
        UsageError: no common blob is reached through layers that have maps; a
            RuntimeError, as in pycaffe.
        AxisMismatchException: maps on the way begin at different axes.
    """
    from_maps = {top_from: _IDENTITY}
    frontier = [top_from]
    while frontier:
        frontier += _below(frontier.pop(), from_maps)
    to_maps = {top_to: _IDENTITY}
    frontier = [top_to]
    while frontier:
        top = frontier.pop()
        if top in from_maps:
            return compose(to_maps[top], inverse(from_maps[top]))
        frontier += _below(top, to_maps)
    raise UsageError(
        "no map between the two blobs: are they connected by spatial layers?"
    )


def crop(top_from: Top, top_to: Top) -> Any:
    """A Crop layer that cuts ``top_from`` to the pixels of ``top_to``.

    Raises:
        CropError: their pixels differ in size, the offset is negative or is no whole
            number; an AssertionError too, as in pycaffe.
        UsageError: as `coord_map_from_to`.
    """
    axis, scale, shift = coord_map_from_to(top_from, top_to)
    if not np.all(np.equal(scale, 1)):
        raise CropError(f"the blobs cannot be cropped: scale mismatch, {scale}")
    if not np.all(np.less_equal(shift, 0)):
        raise CropError(f"the blobs cannot be cropped: negative offset, {-shift}")
    if not np.all(np.round(shift) == shift):
        raise CropError(f"the blobs cannot be cropped: noninteger offset, {-shift}")
    offset = [int(-each) for each in np.atleast_1d(shift)]
    first = _SPATIAL_AXIS if axis is None else axis + 1
    return layers.Crop(top_from, top_to, crop_param={"axis": first, "offset": offset})
