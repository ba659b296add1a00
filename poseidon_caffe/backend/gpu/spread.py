"""How a parameter of a few axes lies along activations of any layout."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from poseidon_caffe.backend.gpu.base import memory_order
from poseidon_caffe.types import Array, Shape

__all__ = ["Spread", "spread_over"]


class Spread(NamedTuple):
    """How a parameter lies along three axes of memory: (a, b, c), c the fastest.

    Attributes:
        order: of the activations' axes in memory.
        lengths: of the three axes.
        steps: from place to place in the parameter; 0 where it is the same.
    """

    order: Shape
    lengths: tuple[int, int, int]
    steps: tuple[int, int, int]

    @property
    def joins_fastest(self) -> bool:
        """Whether the same number serves neighbours in memory."""
        return self.steps[2] == 0


def spread_over(arrays: Sequence[Array | None], axis: int, shape: Shape) -> Spread:
    """A parameter of ``shape`` spread from ``axis`` on over activations.

    Their own order of memory is kept if the parameter then lies along one axis, or
    along the slowest and the fastest; C order, in which it always does, is taken
    otherwise.
    """
    first = next(a for a in arrays if a is not None)
    axis %= max(first.ndim, 1)
    for order in (memory_order(arrays), tuple(range(first.ndim))):
        found = _joined(first.shape, order, axis, shape)
        if found is not None:
            return found
    msg = f"a parameter of shape {shape} at axis {axis} of {first.shape}"
    raise AssertionError(msg)


def _joined(whole: Shape, order: Shape, axis: int, shape: Shape) -> Spread | None:
    """The axes in ``order``, neighbours joined, as three; None if they do not fit."""
    axes: list[tuple[int, int]] = []
    for i in order:
        if whole[i] == 1:
            continue
        kept = axis <= i < axis + len(shape)
        step = math.prod(shape[i - axis + 1 :]) if kept else 0
        if axes and axes[-1][1] == step * whole[i]:
            axes[-1] = (axes[-1][0] * whole[i], step)
        else:
            axes.append((whole[i], step))
    # An axis may lead or close with the parameter standing still, or not be there.
    still = (1, 0)
    kept_axes = [i for i, (_, step) in enumerate(axes) if step]
    if len(kept_axes) == 2 and kept_axes[0] == 0 and len(axes) == 3:
        return _spread(order, axes) if axes[2][1] == 1 else None
    if len(kept_axes) > 1 or (kept_axes and axes[kept_axes[0]][1] != 1):
        return None
    if not kept_axes:
        return _spread(order, [still, still, axes[0] if axes else still])
    at = kept_axes[0]
    before = axes[at - 1] if at else still
    if at + 1 == len(axes):
        return _spread(order, [still, before, axes[at]])
    return _spread(order, [before, axes[at], axes[at + 1]])


def _spread(order: Shape, axes: Sequence[tuple[int, int]]) -> Spread:
    (a, step_a), (b, step_b), (c, step_c) = axes
    return Spread(order, (a, b, c), (step_a, step_b, step_c))
