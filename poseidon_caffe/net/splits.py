"""Split insertion: a top used by several bottoms goes through a Split layer."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from poseidon_caffe.errors import GraphError
from poseidon_caffe.schema.messages import LayerParameter, NetParameter

__all__ = ["insert_splits", "split_blob_name", "split_layer_name"]

_Top = tuple[int, int]  # (layer index, top index)


def split_layer_name(layer: str, blob: str, index: int) -> str:
    """Caffe's name of the split of ``layer``'s top ``index``."""
    return f"{blob}_{layer}_{index}_split"


def split_blob_name(layer: str, blob: str, index: int, part: int) -> str:
    """Caffe's name of part ``part`` of that split."""
    return f"{split_layer_name(layer, blob, index)}_{part}"


@dataclass
class _Uses:
    """Who reads which top, and which tops are losses themselves."""

    source: dict[_Top, _Top] = field(default_factory=dict)  # bottom -> top
    count: Counter[_Top] = field(default_factory=Counter)
    loss: dict[_Top, float] = field(default_factory=dict)


def _find_uses(param: Any) -> _Uses:
    uses = _Uses()
    last: dict[str, _Top] = {}
    for i, layer in enumerate(param.layer):
        for j, blob in enumerate(layer.bottom):
            if blob not in last:
                known = ", ".join(sorted(last)) or "none"
                msg = (
                    f'layer "{layer.name}" ({layer.type}): unknown bottom blob '
                    f'"{blob}" (bottom {j}); blobs made before it: {known}'
                )
                raise GraphError(msg)
            uses.source[i, j] = last[blob]
            uses.count[last[blob]] += 1
        for j, blob in enumerate(layer.top):
            last[blob] = (i, j)
        for j, weight in enumerate(list(layer.loss_weight)[: len(layer.top)]):
            if weight:
                uses.loss[i, j] = weight
                uses.count[i, j] += 1
    return uses


def _split_layer(layer: Any, index: int, parts: int, loss_weight: float) -> Any:
    blob = layer.top[index]
    split = LayerParameter(
        name=split_layer_name(layer.name, blob, index),
        type="Split",
        bottom=[blob],
        top=[split_blob_name(layer.name, blob, index, k) for k in range(parts)],
    )
    if layer.HasField("phase"):
        split.phase = layer.phase
    if loss_weight:
        split.loss_weight.extend([loss_weight] + [0.0] * (parts - 1))
    return split


def insert_splits(param: Any) -> Any:
    """A copy of ``param`` in which every top has at most one reader.

    Naming and order are Caffe's, since users see these blobs.  A top with a loss
    weight that others also read hands its weight to the split's first part.

    Raises:
        GraphError: if a bottom is made by no earlier layer.
    """
    uses = _find_uses(param)
    out = NetParameter()
    out.CopyFrom(param)
    del out.layer[:]
    # A split whose first part carries the loss starts dealing from part 1.
    dealt: Counter[_Top] = Counter(dict.fromkeys(uses.loss, 1))
    for i, original in enumerate(param.layer):
        layer = out.layer.add()
        layer.CopyFrom(original)
        for j, blob in enumerate(original.bottom):
            top = uses.source[i, j]
            if uses.count[top] > 1:
                maker = param.layer[top[0]]
                layer.bottom[j] = split_blob_name(maker.name, blob, top[1], dealt[top])
                dealt[top] += 1
        for j in range(len(original.top)):
            parts = uses.count[i, j]
            if parts > 1:
                weight = uses.loss.get((i, j), 0.0)
                if weight:
                    layer.loss_weight[j] = 0.0
                out.layer.append(_split_layer(original, j, parts, weight))
    return out
