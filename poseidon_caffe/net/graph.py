"""The pure side of a net: which layers, which blobs, who needs a gradient.

Nothing here allocates or computes; `net.Net` runs what this decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from poseidon_caffe.errors import GraphError
from poseidon_caffe.layers.base import Layer

__all__ = ["Wiring", "backward_plan", "connect"]


@dataclass
class Wiring:
    """Names of one layer's blobs.

    Attributes:
        bottom, top: blob names; automatic tops have generated names.
        in_place: per top, whether it is the bottom of the same index.
        need: whether the layer runs backward.
        bottom_need: per bottom, whether it wants a gradient.
    """

    bottom: list[str]
    top: list[str]
    in_place: list[bool]
    need: bool = False
    bottom_need: list[bool] = field(default_factory=list)


def connect(param: Any, available: dict[str, int], made: set[str]) -> Wiring:
    """Wire one layer to the blobs made so far.

    Args:
        param: its LayerParameter (splits inserted).
        available: unread blobs -> maker; updated.
        made: every blob name so far; updated.

    Raises:
        GraphError: unknown bottom, or a top that another layer makes already.
    """
    bottom, top = list(param.bottom), list(param.top)
    for blob in bottom:
        if blob not in available:
            msg = f'layer "{param.name}" ({param.type}): unknown bottom blob "{blob}"'
            raise GraphError(msg)
        del available[blob]
    in_place = []
    for j, blob in enumerate(top):
        same = j < len(bottom) and bottom[j] == blob
        if not same and blob in made:
            msg = (
                f'layer "{param.name}" ({param.type}): top blob "{blob}" is made by '
                f"another layer already; rename it, or make the layer in place "
                f'(bottom: "{blob}" top: "{blob}")'
            )
            raise GraphError(msg)
        in_place.append(same)
        made.add(blob)
        available[blob] = j
    return Wiring(bottom, top, in_place)


def _prune(layers: Sequence[Layer], wiring: Sequence[Wiring]) -> None:
    """Drop backward work that reaches no loss, or that nothing below wants."""
    under_loss: set[str] = set()
    skip: set[str] = set()
    for layer, wire in zip(reversed(layers), reversed(wiring), strict=True):
        contributes = any(
            weight or name in under_loss
            for weight, name in zip(layer.loss_weights, wire.top, strict=True)
        )
        unwanted = all(name in skip for name in wire.top)
        if wire.need and unwanted:
            wire.need = False
            wire.bottom_need = [False] * len(wire.bottom)
        if not contributes:
            wire.need = False
        for j, name in enumerate(wire.bottom):
            if contributes:
                under_loss.add(name)
            else:
                wire.bottom_need[j] = False
            if not wire.bottom_need[j]:
                skip.add(name)


def backward_plan(
    layers: Sequence[Layer], wiring: Sequence[Wiring], *, force: bool
) -> None:
    """Fill in ``need`` and ``bottom_need`` of the whole net, by Caffe's rules.

    ``force`` is ``force_backward``: gradients for everything that allows it.
    """
    _prune(layers, wiring)
    if not force:
        return
    for layer, wire in zip(layers, wiring, strict=True):
        wire.need = True
        for j in range(len(wire.bottom)):
            wire.bottom_need[j] = wire.bottom_need[j] or layer.allow_force_backward(j)
        layer.param_propagate_down = [True] * len(layer.blobs)
