"""Kernel, stride, pad and dilation as convolutions state them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from poseidon_caffe.errors import LayerError
from poseidon_caffe.layers.base import Layer
from poseidon_caffe.types import Shape

__all__ = ["Windows", "check_integers", "read_windows"]

_INT_MAX = 2**31 - 1


@dataclass(frozen=True)
class Windows:
    """Sliding windows: one entry per spatial axis in each tuple."""

    kernel: Shape
    stride: Shape
    pad: Shape
    dilation: Shape


def read_windows(layer: Layer, p: Any, axes: int) -> Windows:
    """Settings of a ConvolutionParameter for ``axes`` spatial axes.

    Each of kernel_size, stride, pad and dilation may be given once for all axes or
    once per axis; kernel, stride and pad also as ``_h`` and ``_w`` for two axes.

    Raises:
        LayerError: missing kernel, both spellings, wrong number of values, zeros.
    """
    settings = Windows(
        kernel=_read(layer, p, "kernel", "kernel_size", axes, None),
        stride=_read(layer, p, "stride", "stride", axes, 1),
        pad=_read(layer, p, "pad", "pad", axes, 0),
        dilation=_per_axis(layer, "dilation", list(p.dilation), axes, 1),
    )
    for what, values in (
        ("kernel_size", settings.kernel),
        ("stride", settings.stride),
        ("dilation", settings.dilation),
    ):
        if any(value < 1 for value in values):
            raise LayerError(layer.describe(f"{what} must be positive, not {values}"))
    check_integers(layer, (*settings.kernel, *settings.stride, *settings.pad))
    check_integers(layer, settings.dilation)
    return settings


def check_integers(layer: Layer, values: Sequence[int]) -> None:
    """Raise LayerError for sizes that no ``int`` of Caffe's can have."""
    if any(value > _INT_MAX for value in values):
        problem = f"sizes are at most {_INT_MAX}, not {max(values)}"
        raise LayerError(layer.describe(problem))


def _read(
    layer: Layer, p: Any, stem: str, field: str, axes: int, default: int | None
) -> Shape:
    """Values of one setting, from its ``_h``/``_w`` fields or its repeated one."""
    high, wide = f"{stem}_h", f"{stem}_w"
    if not (p.HasField(high) or p.HasField(wide)):
        return _per_axis(layer, field, list(getattr(p, field)), axes, default)
    if len(getattr(p, field)):
        problem = f"give {field} or {high} and {wide}, not both"
        raise LayerError(layer.describe(problem))
    if axes != 2:
        problem = f"{high} and {wide} are for two spatial axes, not {axes}"
        raise LayerError(layer.describe(problem))
    if stem != "pad" and not (p.HasField(high) and p.HasField(wide)):
        raise LayerError(layer.describe(f"{high} and {wide} must be given together"))
    return (getattr(p, high), getattr(p, wide))


def _per_axis(
    layer: Layer, field: str, given: list[int], axes: int, default: int | None
) -> Shape:
    """One value per axis from none, one or all."""
    if not given:
        if default is None and axes > 0:
            problem = f"needs {field} (or its _h and _w)"
            raise LayerError(layer.describe(problem))
        return (default or 0,) * axes
    if len(given) == 1:
        return tuple(given) * axes
    if len(given) != axes:
        problem = f"{field} has {len(given)} values for {axes} spatial axes"
        raise LayerError(layer.describe(problem))
    return tuple(given)
