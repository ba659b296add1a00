"""Parameter fillers: how a fresh weight blob gets its numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from poseidon_caffe.backend.protocols import RandomOps
from poseidon_caffe.errors import LayerError
from poseidon_caffe.types import Array, Shape

__all__ = ["FILLERS", "check_filler", "fans", "fill"]

_FAN_IN, _FAN_OUT, _AVERAGE = 0, 1, 2


def fans(shape: Shape) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight blob (outputs, inputs, ...), Caffe's rule.

    ``fan_in = count / shape[0]``; ``fan_out = count / shape[1]``, or the count
    itself for blobs of fewer than two axes.
    """
    count = math.prod(shape)
    fan_in = count // max(shape[0], 1) if shape else count
    fan_out = count // max(shape[1], 1) if len(shape) > 1 else count
    return fan_in, fan_out


def _norm(filler: Any, shape: Shape) -> float:
    fan_in, fan_out = fans(shape)
    n = {_FAN_IN: fan_in, _FAN_OUT: fan_out}.get(
        int(filler.variance_norm), (fan_in + fan_out) / 2
    )
    return float(max(n, 1))


def _constant(array: Array, filler: Any, rng: Any, ops: RandomOps) -> None:  # noqa: ARG001
    """All elements are ``value``."""
    array[...] = filler.value


def _uniform(array: Array, filler: Any, rng: Any, ops: RandomOps) -> None:
    """Uniform in [min, max)."""
    if not filler.min <= filler.max:
        msg = (
            f"a uniform filler needs min <= max, not {filler.min:g} and {filler.max:g}"
        )
        raise LayerError(msg)
    ops.uniform(rng, filler.min, filler.max, array)


def _gaussian(array: Array, filler: Any, rng: Any, ops: RandomOps) -> None:
    """Normal(mean, std); ``sparse`` keeps about so many inputs per output."""
    if not filler.std >= 0:
        msg = f"a gaussian filler needs a std that is not negative, not {filler.std:g}"
        raise LayerError(msg)
    ops.normal(rng, filler.mean, filler.std, array)
    if filler.sparse >= 0:
        outputs = array.shape[0] if array.ndim else 1
        keep = min(filler.sparse / max(outputs, 1), 1.0)
        array *= rng.random(array.shape, np.float32) < keep


def _xavier(array: Array, filler: Any, rng: Any, ops: RandomOps) -> None:
    """Uniform in +-sqrt(3 / n), n by ``variance_norm``."""
    scale = math.sqrt(3.0 / _norm(filler, array.shape))
    ops.uniform(rng, -scale, scale, array)


def _msra(array: Array, filler: Any, rng: Any, ops: RandomOps) -> None:
    """Normal(0, sqrt(2 / n)), n by ``variance_norm``."""
    ops.normal(rng, 0.0, math.sqrt(2.0 / _norm(filler, array.shape)), array)


def _positive_unitball(array: Array, filler: Any, rng: Any, ops: RandomOps) -> None:  # noqa: ARG001
    """Uniform in [0, 1), then every output's weights are scaled to sum 1."""
    ops.uniform(rng, 0.0, 1.0, array)
    if array.ndim > 0:
        array /= array.sum(axis=tuple(range(1, array.ndim)), keepdims=True)
    else:
        array[...] = 1


def _bilinear(array: Array, filler: Any, rng: Any, ops: RandomOps) -> None:  # noqa: ARG001
    """Upsampling weights for Deconvolution: one tent in each square plane."""
    if array.ndim != 4 or array.shape[2] != array.shape[3]:
        msg = f"a bilinear filler needs a shape (n, c, k, k), not {array.shape}"
        raise LayerError(msg)
    width = array.shape[3]
    half = math.ceil(width / 2)
    centre = (width - 1) / (2.0 * half)
    tent = 1 - np.abs(np.arange(width) / half - centre)
    array[...] = np.outer(tent, tent)


#: Filler functions by the name used in prototxts.
FILLERS: dict[str, Callable[[Array, Any, Any, RandomOps], None]] = {
    "bilinear": _bilinear,
    "constant": _constant,
    "gaussian": _gaussian,
    "msra": _msra,
    "positive_unitball": _positive_unitball,
    "uniform": _uniform,
    "xavier": _xavier,
}


def check_filler(filler: Any, where: str) -> None:
    """Raise LayerError for an unknown type, or ``sparse`` where it has no place.

    Args:
        filler: FillerParameter message.
        where: start of the error message.
    """
    if filler.type not in FILLERS:
        known = ", ".join(sorted(FILLERS))
        msg = f'{where}: unknown filler type "{filler.type}" (known: {known})'
        raise LayerError(msg)
    if filler.sparse < -1 or (filler.sparse != -1 and filler.type != "gaussian"):
        msg = (
            f'{where}: sparse: {filler.sparse} does not suit a "{filler.type}" filler; '
            "only gaussian takes it, as -1 (dense) or a count of inputs per output"
        )
        raise LayerError(msg)


def fill(
    array: Array,
    filler: Any,
    rng: np.random.Generator,
    ops: RandomOps,
    *,
    where: str = "filler",
) -> None:
    """Overwrite ``array`` with what a FillerParameter asks for.

    Args:
        array: (outputs, inputs, ...) of any floating dtype.
        filler: FillerParameter message.
        rng: where random numbers come from; drawn as float32 for every dtype.
        ops: the backend that draws them.
        where: start of error messages, such as the layer's name.

    Raises:
        LayerError: for an unknown type, or settings that the type cannot use.
    """
    check_filler(filler, where)
    try:
        FILLERS[filler.type](array, filler, rng, ops)
    except LayerError as error:
        raise LayerError(f"{where}: {error}") from None
