"""Parameters that are treated alike, side by side in memory.

A solver's update then is one pass over each group instead of one over each
parameter: nets have many small ones (a bias has a few dozen numbers).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.net.hooks import ParamSlot
from poseidon_caffe.types import Array

__all__ = ["ParamGroup", "gather", "place_group"]

_ALIGN_COUNT = 16


@dataclass(frozen=True)
class ParamGroup:
    """Learnable parameters of one ``lr_mult`` and ``decay_mult``.

    Attributes:
        slots: in the order in which they lie.
        data, diff: all of them, flat arrays of the blobs' memory; a few zeros between
            them keep each aligned.  What the host has written to a blob gets here by
            that blob's ``data`` (or ``diff``).
    """

    slots: tuple[ParamSlot, ...]
    data: Array
    diff: Array


def place_group(slots: Sequence[ParamSlot]) -> tuple[list[slice], int]:
    """Where each slot lies in a flat array of its group, and the array's length."""
    places, at = [], 0
    for slot in slots:
        count = math.prod(slot.shape)
        places.append(slice(at, at + count))
        at += -(-count // _ALIGN_COUNT) * _ALIGN_COUNT
    return places, at


def gather(slots: Sequence[ParamSlot], learnable: Sequence[Blob]) -> list[ParamGroup]:
    """Move parameters and gradients into one piece of memory a group.

    Values stay; blobs that share a parameter follow, as they share its buffer.
    """
    kinds: dict[tuple[float, float, np.dtype], list[ParamSlot]] = {}
    for slot in slots:
        blob = learnable[slot.index]
        kinds.setdefault((slot.lr_mult, slot.decay_mult, blob.dtype), []).append(slot)
    groups = []
    for (_, _, dtype), members in kinds.items():
        places, total = place_group(members)
        memory = learnable[members[0].index].memory
        whole = [memory.zeros(total, dtype) for _ in ("data", "diff")]
        for slot, place in zip(members, places, strict=True):
            blob = learnable[slot.index]
            values = blob.cpu_data.copy()
            blob.data_storage.move(whole[0][place])
            blob.diff_storage.move(whole[1][place])
            blob.mutable_cpu_data[...] = values
        groups.append(ParamGroup(tuple(members), whole[0], whole[1]))
    return groups
