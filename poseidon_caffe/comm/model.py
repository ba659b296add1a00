"""What a cluster trains, and who does what in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from poseidon_caffe.comm.carrier import (
    DIRECT,
    Carrier,
    GradientScale,
    ParamBlob,
    Rebuilder,
)
from poseidon_caffe.comm.policy import PROCESSOR, Speed
from poseidon_caffe.comm.rows import Row
from poseidon_caffe.net.hooks import ParamSlot
from poseidon_caffe.types import Array, RowUpdater

__all__ = ["Model", "ParamBlob", "Rebuild", "Roles"]

Rebuild = Callable[[Array, Array, Array, "Array | None"], None]
"""(bottoms (R, K), top diffs (R, M), weight gradient (M, K), bias gradient (M,) or
None): overwrites the gradients with the products over all R rows."""


@dataclass(frozen=True)
class Model:
    """A net and its solver as the cluster sees them; alike on every rank.

    Attributes:
        slots: the learnable parameters.
        blobs: their memory, by slot index.
        updater: applies the solver's rule in the communication thread.
        local_updater: the same for the main thread (factor slots).
        rebuild: makes an inner product's gradient from factors.
        factor_rows: rows of a slot's factors in one pass, by slot index.
        iteration: the one that comes next.
        iter_size: passes an iteration.
        clip_gradients: limit on the norm of the averaged gradient; negative: none.
        frozen: slots that never move, by index.
        counts_still: whether gradients of slots with ``lr_mult`` 0 are there, and
            count in the norm that clips (``force_backward``).
        on_clip: told (iteration, norm, factor) on the main thread.
        rebuilder: works on factor slots; None: ``rebuild`` and ``local_updater`` do.
        carrier: moves numbers between ``blobs`` and where the net computes.
        speed: of the workers, for who weighs factors against rows.
        scale: a factor on all gradients, which updates take out; None: there is none.
    """

    slots: Sequence[ParamSlot]
    blobs: Sequence[ParamBlob]
    updater: RowUpdater
    local_updater: RowUpdater
    rebuild: Rebuild
    factor_rows: dict[int, int] = field(default_factory=dict)
    iteration: int = 0
    iter_size: int = 1
    clip_gradients: float = -1.0
    frozen: frozenset[int] = frozenset()
    counts_still: bool = False
    on_clip: Callable[[int, float, float], None] | None = None
    rebuilder: Rebuilder | None = None
    carrier: Carrier = DIRECT
    speed: Speed = PROCESSOR
    scale: GradientScale | None = None

    def counts(self, slot: int) -> bool:
        """Whether the slot's gradient counts in the norm that clips."""
        return self.slots[slot].lr_mult != 0 or self.counts_still

    def travels(self, slot: int) -> bool:
        """Whether other ranks need anything of the slot: it moves, or it counts."""
        if slot not in self.frozen:
            return True
        clips = self.clip_gradients >= 0
        return clips and self.counts(slot) and not self.slots[slot].statistics

    def label(self, row: Row) -> str:
        """A row in words, for reports of what is waited for."""
        first = self.slots[row.pieces[0].slot].name
        more = f" and {len(row.pieces) - 1} more" if len(row.pieces) > 1 else ""
        return f"{first}{more}, row {row.index}"


@dataclass(frozen=True)
class Roles:
    """Which ranks work and which serve.

    Attributes:
        rank: this process.
        workers: ranks that compute: 0 to N-1.
        servers: ranks that own rows: the workers, or the last ranks alone.
    """

    rank: int
    workers: tuple[int, ...]
    servers: tuple[int, ...]

    @classmethod
    def of(cls, rank: int, size: int, servers: int) -> Roles:
        """Roles when the last ``servers`` of ``size`` ranks only serve (0: none)."""
        everybody = tuple(range(size))
        if not servers:
            return cls(rank, everybody, everybody)
        return cls(rank, everybody[: size - servers], everybody[size - servers :])

    @property
    def works(self) -> bool:
        """Whether this rank computes."""
        return self.rank in self.workers

    @property
    def serves(self) -> bool:
        """Whether this rank owns rows."""
        return self.rank in self.servers

    @property
    def is_dedicated(self) -> bool:
        """Whether servers do not compute."""
        return self.servers != self.workers
