"""How each slot travels: by rows, as factors, averaged, or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from poseidon_caffe.comm.factors import FactorPair
from poseidon_caffe.comm.link import LinkClass, Sizes
from poseidon_caffe.comm.model import Model, Roles
from poseidon_caffe.comm.policy import Choice, choose
from poseidon_caffe.comm.rows import Row, cut
from poseidon_caffe.comm.settings import ClusterSettings

__all__ = ["Plan", "make_plan"]


@dataclass(frozen=True)
class Plan:
    """Every slot's way; the same on all ranks.

    Attributes:
        rows: messages to and from owners.
        pairs: inner products that travel as factors.
        choices: what was decided for each inner product, and why.
    """

    rows: Sequence[Row]
    pairs: Sequence[FactorPair]
    choices: Sequence[Choice]


def make_plan(
    model: Model,
    roles: Roles,
    settings: ClusterSettings,
    link: LinkClass,
    sizes: Sizes,
) -> Plan:
    """Choose a way for every slot that moves, or whose gradient counts in a norm.

    Raises:
        ClusterError: settings that contradict each other.
    """
    moving = [slot for slot in model.slots if model.travels(slot.index)]
    choices = choose(
        moving,
        model.factor_rows,
        itemsize=model.blobs[0].dtype.itemsize if model.blobs else 4,
        iter_size=model.iter_size,
        workers=len(roles.workers),
        servers=len(roles.servers) if roles.is_dedicated else 0,
        staleness=settings.staleness,
        svb=settings.svb,
        link=link,
        speed=model.speed,
    )
    pairs = [
        FactorPair(
            model.slots[choice.slot],
            None if choice.bias is None else model.slots[choice.bias],
        )
        for choice in choices
        if choice.by_factors
    ]
    elsewhere = {slot.index for pair in pairs for slot in pair.slots}
    rows = cut(
        [slot for slot in moving if slot.index not in elsewhere],
        {slot.index: model.blobs[slot.index].dtype.name for slot in moving},
        roles.servers,
        merge_bytes=sizes.merge_bytes,
        row_bytes=settings.row_bytes or sizes.row_bytes,
    )
    return Plan(rows, pairs, choices)
