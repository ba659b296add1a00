"""What travelled: bytes by layer and kind, beside what the formulas say.

`Traffic.sent` and `Traffic.received` are called for every message, so they only add
to a dict by tag; which layers a tag stands for is worked out for the report.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Final

from poseidon_caffe.comm.model import Roles
from poseidon_caffe.comm.policy import Choice
from poseidon_caffe.comm.rows import Row
from poseidon_caffe.comm.tags import factors_tag, gradient_tag, values_tag
from poseidon_caffe.net.hooks import ParamSlot
from poseidon_caffe.types import JsonObject

__all__ = [
    "CONTROL",
    "FACTORS",
    "ROWS",
    "STATISTICS",
    "Flow",
    "Group",
    "Traffic",
    "expected_bytes",
    "formula_bytes",
]

ROWS: Final = "rows"
FACTORS: Final = "factors"
STATISTICS: Final = "statistics"
CONTROL: Final = "control"
_MEGABYTE = 1e6


@dataclass(frozen=True)
class Group:
    """What is counted together.

    Attributes:
        layer: name of a layer or of shared weights; empty for control.
        kind: `ROWS`, `FACTORS`, `STATISTICS`, or `CONTROL` for all else: heartbeats,
            boards, snapshots' histories.
    """

    layer: str
    kind: str


@dataclass(frozen=True)
class Flow:
    """Bytes in both directions, of one rank."""

    sent_bytes: float
    received_bytes: float


def expected_bytes(
    rows: Sequence[Row],
    choices: Sequence[Choice],
    slots: Sequence[ParamSlot],
    roles: Roles,
) -> dict[Group, Flow]:
    """What ``roles.rank`` sends and receives in an iteration: exact, by the plan.

    Args:
        rows: of the plan.
        choices: of the plan; those by rows are in ``rows``.
        slots: all parameters, by index.
        roles: who works and who serves.
    """
    times: dict[Group, Fraction | int] = defaultdict(int)
    for row in rows:
        for group, share_bytes in _shares(row, slots):
            times[group] += share_bytes * _transfers(row.owner, roles)
    flows = {group: Flow(int(size), int(size)) for group, size in times.items() if size}
    return {**flows, **_factor_flows(choices, slots, roles)}


def formula_bytes(
    rows: Sequence[Row],
    choices: Sequence[Choice],
    slots: Sequence[ParamSlot],
    roles: Roles,
) -> dict[Group, Flow]:
    """The closed formulas for the same: every server owns an equal part of all.

    P workers that serve send 2(P-1)/P of what goes by rows; of P1 workers each sends
    all of it once, of P2 servers each P1/P2 of it.
    """
    workers, servers = len(roles.workers), len(roles.servers)
    if not roles.is_dedicated:
        times = Fraction(2 * (workers - 1), workers)
    else:
        times = Fraction(1) if roles.works else Fraction(workers, servers)
    sizes: dict[Group, int] = defaultdict(int)
    for row in rows:
        for group, share_bytes in _shares(row, slots):
            sizes[group] += share_bytes
    flows = {}
    for group, size_bytes in sizes.items():
        moved = float(size_bytes * times)
        flows[group] = Flow(moved, moved)
    return {**flows, **_factor_flows(choices, slots, roles)}


def _transfers(owner: int, roles: Roles) -> int:
    """How often a rank sends a row, and receives it as often.

    A worker sends its gradient to the owner and gets values; an owner gets gradients
    from all other workers and sends values to them.
    """
    if owner == roles.rank:
        return sum(worker != owner for worker in roles.workers)
    return 1 if roles.works else 0


def _factor_flows(
    choices: Sequence[Choice], slots: Sequence[ParamSlot], roles: Roles
) -> dict[Group, Flow]:
    if not roles.works:
        return {}
    return {
        Group(_layer(slots[choice.slot]), FACTORS): Flow(
            choice.factors_bytes, choice.factors_bytes
        )
        for choice in choices
        if choice.by_factors and choice.factors_bytes
    }


def _shares(row: Row, slots: Sequence[ParamSlot]) -> Iterable[tuple[Group, int]]:
    """A row's bytes by layer."""
    itemsize = row.size_bytes // row.count
    kind = STATISTICS if row.is_mean else ROWS
    for piece in row.pieces:
        group = Group(_layer(slots[piece.slot]), kind)
        yield group, (piece.stop - piece.start) * itemsize


def _layer(slot: ParamSlot) -> str:
    """``fc6/0`` is fc6's; shared weights keep their name."""
    return slot.name.removesuffix(f"/{slot.param_index}")


class Traffic:
    """Counts what one rank sends and receives.

    `sent` and `received` belong to the courier's thread; `report` may run in another,
    between iterations.

    Args:
        rows: of the plan.
        choices: of the plan.
        slots: all parameters, by index.
        roles: who works and who serves.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        choices: Sequence[Choice],
        slots: Sequence[ParamSlot],
        roles: Roles,
    ) -> None:
        self._rows, self._choices = rows, choices
        self._slots, self._roles = slots, roles
        self._sent: dict[int, float] = {}
        self._received: dict[int, float] = {}

    def sent(self, tag: int, size_bytes: int) -> None:
        """Count a message that left."""
        self._sent[tag] = self._sent.get(tag, 0) + size_bytes

    def received(self, tag: int, size_bytes: int) -> None:
        """Count a message that came."""
        self._received[tag] = self._received.get(tag, 0) + size_bytes

    def clear(self) -> None:
        """Begin to count anew."""
        self._sent.clear()
        self._received.clear()

    def counts(self) -> JsonObject:
        """What was counted so far, to be sent to another rank's `mean_of`."""
        return {
            "sent": {str(tag): size for tag, size in list(self._sent.items())},
            "received": {str(tag): size for tag, size in list(self._received.items())},
        }

    def mean_of(self, counts: Sequence[JsonObject]) -> Traffic:
        """The mean of what some ranks counted (`counts`), each about this plan.

        A layer that shares its rows with others may have most of its bytes on one
        rank; the mean is what the formulas speak of.
        """
        mean = Traffic(self._rows, self._choices, self._slots, self._roles)
        for into, name in ((mean._sent, "sent"), (mean._received, "received")):
            for each in counts:
                for tag, size in each[name].items():
                    into[int(tag)] = into.get(int(tag), 0) + size / len(counts)
        return mean

    def totals(self) -> dict[Group, Flow]:
        """Bytes so far by layer and kind."""
        sent, received = self._by_group(self._sent), self._by_group(self._received)
        return {
            group: Flow(sent.get(group, 0), received.get(group, 0))
            for group in sorted(sent | received, key=self._place)
        }

    def sum(self) -> Flow:
        """All bytes so far but those of control."""
        flows = self.totals().items()
        return _sum(flow for group, flow in flows if group.kind != CONTROL)

    def report(self, iterations: int) -> list[str]:
        """A table of MB per iteration: counted, and by formula, in both directions.

        The total leaves out control, of which most comes once: histories for a
        snapshot, start values.

        Args:
            iterations: that were counted.
        """
        counted = self.totals()
        formulas = formula_bytes(self._rows, self._choices, self._slots, self._roles)
        groups = sorted(counted | formulas, key=self._place)
        none, lines = Flow(0, 0), []
        for group in groups:
            flow, formula = counted.get(group, none), formulas.get(group, none)
            lines.append(_cells(group.layer, group.kind, flow, formula, iterations))
        every = self.sum(), _sum(formulas.values())
        lines.append(_cells("total", "", *every, iterations))
        return _table([_HEADER, *lines])

    def _by_group(self, by_tag: Mapping[int, float]) -> dict[Group, float]:
        """Bytes by tag dealt to the layers whose messages they were."""
        sizes: dict[Group, float] = defaultdict(float)
        # One step: the courier may be adding a tag at this moment.
        for tag, size_bytes in list(by_tag.items()):
            for group, share in self._groups.get(tag, _CONTROL_ONLY):
                sizes[group] += float(size_bytes * share)
        return dict(sizes)

    @cached_property
    def _groups(self) -> dict[int, Sequence[tuple[Group, Fraction]]]:
        """Of each tag the layers and their shares."""
        found: dict[int, Sequence[tuple[Group, Fraction]]] = {}
        for row in self._rows:
            shares = [
                (group, Fraction(size_bytes, row.size_bytes))
                for group, size_bytes in _shares(row, self._slots)
            ]
            found[gradient_tag(row.index)] = found[values_tag(row.index)] = shares
        for choice in self._choices:
            if choice.by_factors:
                group = Group(_layer(self._slots[choice.slot]), FACTORS)
                for part in (0, 1):
                    found[factors_tag(choice.slot, part)] = [(group, Fraction(1))]
        return found

    def _place(self, group: Group) -> tuple[int, str]:
        """Layers in the order of the net, control last."""
        return self._order.get(group.layer, len(self._slots)), group.kind

    @cached_property
    def _order(self) -> dict[str, int]:
        return {_layer(slot): slot.index for slot in reversed(self._slots)}


_CONTROL_ONLY = [(Group("", CONTROL), Fraction(1))]
_WORDS = 2
_HEADER = ("layer", "kind", "sent MB", "formula", "received MB", "formula")


def _sum(flows: Iterable[Flow]) -> Flow:
    found = list(flows)
    return Flow(
        sum(flow.sent_bytes for flow in found),
        sum(flow.received_bytes for flow in found),
    )


def _cells(
    layer: str, kind: str, flow: Flow, formula: Flow, iterations: int
) -> tuple[str, ...]:
    def megabytes(size_bytes: float) -> str:
        return f"{size_bytes / _MEGABYTE:.3f}"

    share = 1 / max(iterations, 1)
    return (
        layer,
        kind,
        megabytes(flow.sent_bytes * share),
        megabytes(formula.sent_bytes),
        megabytes(flow.received_bytes * share),
        megabytes(formula.received_bytes),
    )


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Columns aligned: words to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]

    def line(row: tuple[str, ...]) -> str:
        cells = [
            cell.ljust(width) if column < _WORDS else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return "  ".join(cells)

    return [line(row) for row in rows]
