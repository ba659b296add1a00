"""Which inner products travel as factors: the cost rule, a pure function.

An M×N inner product's gradient is the product of top diffs (K, M) and bottoms (K, N).
With P workers that serve as well, a node sends 2(MN + M)(P-1)/P values an iteration by
rows and K(P-1)(M + N) as factors; with P1 workers and P2 servers (MN + M)(P1+P2-2)/P2
by rows and K(P1-1)(M + N) as factors (half of what "Poseidon", ATC 2017, table 1,
counts, sent and received).  The bias (M values) is rebuilt from the same top diffs.

Factors make every worker rebuild the others' part of the sum, 2 K(P-1) MN operations
beyond its own, and update all MN values instead of the part it owns.  On a slow link
that is nothing, in memory it may be more than the bytes saved.  The rates at which it
is charged are constants, as is the link's class: the choice decides in which order sums
are made, so it must not change between runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from poseidon_caffe.comm.link import LinkClass
from poseidon_caffe.comm.settings import SVB_MODES
from poseidon_caffe.errors import ClusterError
from poseidon_caffe.net.hooks import ParamSlot

__all__ = [
    "GPU",
    "PROCESSOR",
    "Choice",
    "Speed",
    "choose",
    "describe",
]

_UPDATE_ARRAYS = 6  # the gradient written, three read, two written
# What three digits show as the next unit's 1.
_ROUNDS_UP = 0.9995


@dataclass(frozen=True)
class Speed:
    """At what rates factors are charged for what every worker does with them.

    Attributes:
        rebuild_flops_per_s: of a GEMM whose inner size, K, is small.
        update_bytes_per_s: of an update, in which values, gradient and history go
            through memory once.
    """

    rebuild_flops_per_s: float
    update_bytes_per_s: float


PROCESSOR = Speed(1e11, 2e10)
"""Nominal: two or so threads."""

GPU = Speed(1e13, 1e12)
"""Nominal: a half of what an A100 has in float32, and of its memory's rate."""


@dataclass(frozen=True)
class Choice:
    """How one inner product travels.

    Attributes:
        slot: index of its weights.
        bias: index of its bias if that moves too, or None; goes the same way.
        name: of the layer, or of the shared weights.
        by_factors: factors, else rows.
        rows_bytes: what a node sends per iteration by rows, on average.
        factors_bytes: what a worker sends per iteration as factors.
        reason: why, in words.
    """

    slot: int
    bias: int | None
    name: str
    by_factors: bool
    rows_bytes: int
    factors_bytes: int
    reason: str


@dataclass(frozen=True)
class _Terms:
    """What all slots' decisions share."""

    workers: int
    servers: int
    staleness: int
    svb: str
    link: LinkClass
    speed: Speed


def choose(
    slots: Sequence[ParamSlot],
    factor_rows: Mapping[int, int],
    *,
    itemsize: int,
    iter_size: int,
    workers: int,
    servers: int,
    staleness: int,
    svb: str,
    link: LinkClass,
    speed: Speed = PROCESSOR,
) -> list[Choice]:
    """Decide for each inner product among ``slots``.

    Args:
        slots: the parameters that move.
        factor_rows: rows of a slot's factors in one pass, by its index: the batch.
        itemsize: bytes of a value.
        iter_size: passes an iteration.
        workers: P, or P1.
        servers: ranks that only serve, P2; 0: the workers serve.
        staleness: factors need 0.
        svb: ``auto``, ``on`` or ``off``.
        link: between the ranks.
        speed: of the workers; the same for all.

    Returns:
        Choices in the order of ``slots``.

    Raises:
        ClusterError: ``on`` with staleness, or an unknown ``svb``.
    """
    if svb not in SVB_MODES:
        known = ", ".join(SVB_MODES)
        raise ClusterError(f'svb: expected one of {known}, received "{svb}"')
    if svb == "on" and staleness:
        msg = (
            f"--svb on with --staleness {staleness}: factors are exact only when no "
            "worker runs ahead. Use --staleness 0, or --svb auto, which takes rows"
        )
        raise ClusterError(msg)
    terms = _Terms(workers, servers, staleness, svb, link, speed)
    biases = {slot.owner: slot for slot in slots if slot.param_index == 1}
    choices = []
    for slot in slots:
        if slot.source is not None and slot.param_index == 0:
            rows = factor_rows.get(slot.index, 0) * iter_size
            bias = biases.get(slot.owner)
            choices.append(_decide(slot, bias, rows, itemsize, terms))
    return choices


def _decide(
    slot: ParamSlot, bias: ParamSlot | None, rows: int, itemsize: int, terms: _Terms
) -> Choice:
    """One inner product; ``rows`` is K, of all passes of one worker."""
    outputs, inputs = slot.shape[0], math.prod(slot.shape[1:])
    values = outputs * inputs + (0 if bias is None else outputs)
    rows_bytes = round(values * _sent_by_rows(terms)) * itemsize
    factors_bytes = rows * (terms.workers - 1) * (outputs + inputs) * itemsize
    operations = 2 * rows * (terms.workers - 1) * outputs * inputs
    owned = 0.0 if terms.servers else 1 / terms.workers
    update_bytes = _UPDATE_ARRAYS * outputs * inputs * itemsize * (1 - owned)
    rebuild_s = operations / terms.speed.rebuild_flops_per_s
    rebuild_s += update_bytes / terms.speed.update_bytes_per_s
    refusal = _refusal(slot, bias, rows, terms)
    if refusal:
        by_factors, reason = False, refusal
    elif terms.svb == "on":
        by_factors, reason = True, "--svb on"
    else:
        saved_s = (rows_bytes - factors_bytes) / terms.link.bytes_per_s
        by_factors = saved_s >= rebuild_s
        reason = _because(saved_s, rebuild_s, terms.link)
    return Choice(
        slot=slot.index,
        bias=None if bias is None else bias.index,
        name=slot.name.removesuffix(f"/{slot.param_index}"),
        by_factors=by_factors,
        rows_bytes=rows_bytes,
        factors_bytes=factors_bytes,
        reason=reason,
    )


def _sent_by_rows(terms: _Terms) -> float:
    """How often a node sends each value, on average."""
    workers, servers = terms.workers, terms.servers
    if not servers:
        return 2 * (workers - 1) / workers
    return (workers + servers - 2) / servers


def _refusal(slot: ParamSlot, bias: ParamSlot | None, rows: int, terms: _Terms) -> str:
    """Why factors are out of the question; empty when they are not."""
    reasons = (
        (terms.svb == "off", "--svb off"),
        (len(slot.users) > 1, f"{len(slot.users)} layers share the weights"),
        (bias is not None and len(bias.users) > 1, "layers share the bias"),
        (not slot.lr_mult, "the weights are not learned: lr_mult is 0"),
        (bias is not None and not bias.lr_mult, "the bias is not learned: lr_mult 0"),
        (not rows, "the batch size is not known"),
        (terms.staleness > 0, f"factors need --staleness 0, not {terms.staleness}"),
        (terms.workers == 1 and terms.svb == "auto", "there is one worker"),
    )
    return next((reason for holds, reason in reasons if holds), "")


def _because(saved_s: float, rebuild_s: float, link: LinkClass) -> str:
    where = "in memory" if link.name == "memory" else f"at {link.name}"
    if saved_s < 0:
        return "fewer bytes by rows"
    return (
        f"saves {_duration(saved_s)} {where}, rebuilding costs {_duration(rebuild_s)}"
    )


def _duration(seconds: float) -> str:
    if seconds >= _ROUNDS_UP:
        return f"{seconds:.3g} s"
    return f"{1e3 * seconds:.3g} ms"


def describe(choices: Sequence[Choice]) -> list[str]:
    """A line for the log of each choice, with both figures per iteration."""
    return [_line(choice) for choice in choices]


def _line(choice: Choice) -> str:
    rows, factors = _in_words(choice.rows_bytes), _in_words(choice.factors_bytes)
    if choice.by_factors:
        told = f"factors, {factors} instead of {rows} by rows"
    elif choice.factors_bytes:
        told = f"rows, {rows} instead of {factors} as factors"
    else:
        told = f"rows, {rows}"
    return f"{choice.name}: {told} ({choice.reason})"


def _in_words(size_bytes: int) -> str:
    """1,234,567 as ``1.23 MB``."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= _ROUNDS_UP * scale:
            return f"{size_bytes / scale:.3g} {unit}"
    return f"{size_bytes} B"
