"""Sufficient factors: inner products whose gradient is rebuilt from small matrices.

The weight gradient of an inner product is a product: top diffs (R, M) transposed times
bottoms (R, K), R rows over all workers.  Where the two are smaller than the product,
every worker sends them to all others, rebuilds the sum in one GEMM and applies the
solver's rule once, itself: all replicas take the same step ("Poseidon", ATC 2017,
section 3.2; there each received factor was a step of its own).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from poseidon_caffe.comm.courier import Courier, Waiting
from poseidon_caffe.comm.model import Model, Roles
from poseidon_caffe.comm.norm import NormBoard
from poseidon_caffe.comm.rebuilding import rebuilder_of
from poseidon_caffe.comm.tags import factors_tag
from poseidon_caffe.comm.verdict import VerdictBoard
from poseidon_caffe.errors import ClusterError
from poseidon_caffe.net.hooks import ParamSlot
from poseidon_caffe.types import Array

__all__ = ["FactorExchange", "FactorPair"]


@dataclass(frozen=True)
class FactorPair:
    """Slots whose gradients come from one pair of factors.

    Attributes:
        weights: the (M, K) weights.
        bias: the (M,) bias of the same layer, or None.
    """

    weights: ParamSlot
    bias: ParamSlot | None = None

    @property
    def slots(self) -> list[ParamSlot]:
        """One or both."""
        return [self.weights] if self.bias is None else [self.weights, self.bias]


class _Gathering:
    """One pair's factors of all workers; memory for one clock."""

    def __init__(self, pair: FactorPair, model: Model, roles: Roles) -> None:
        outputs, inputs = pair.weights.shape
        self.pair = pair
        self.rows = model.factor_rows[pair.weights.index]
        workers, total = len(roles.workers), self.rows * model.iter_size
        dtype = model.blobs[pair.weights.index].dtype
        zeros = model.carrier.zeros
        self.parts = (
            zeros((workers, total, outputs), dtype),
            zeros((workers, total, inputs), dtype),
        )
        self.passes = 0
        self.version = model.iteration
        # Messages of this clock still to come, and own ones still to leave.
        self.missing = self.leaving = 0
        self.is_pushed = self.is_rebuilt = False

    @property
    def is_complete(self) -> bool:
        """Whether the gradient can be rebuilt."""
        return self.is_pushed and not self.missing and not self.is_rebuilt


class FactorExchange:
    """Gathers factors and updates the slots that travel so (staleness 0).

    Main thread's methods: `push`, `send`, `work`; the rest is the courier's.

    Args:
        courier: the rank's.
        pairs: in the order of the slots.
        model: parameters, rule, and how gradients are rebuilt.
        roles: of this rank, a worker.
        norm: where norms meet when gradients are clipped, else None.
        slice_bytes: largest message.
        verdicts: without which no gradient is applied, where they are scaled.
    """

    def __init__(
        self,
        courier: Courier,
        pairs: Sequence[FactorPair],
        model: Model,
        roles: Roles,
        norm: NormBoard | None,
        slice_bytes: int,
        verdicts: VerdictBoard | None = None,
    ) -> None:
        self._courier, self._model, self._roles = courier, model, roles
        self._norm, self._slice_bytes = norm, slice_bytes
        self._verdicts = verdicts
        self._rebuilder = rebuilder_of(model)
        self._scale = 1.0 / (len(roles.workers) * model.iter_size)
        self._all = [_Gathering(pair, model, roles) for pair in pairs]
        self._by_slot = {
            slot.index: each for each in self._all for slot in each.pair.slots
        }
        for each in self._all:
            assert each.pair.weights.source is not None
            each.pair.weights.source.defer_gradient = True

    def __contains__(self, slot: int) -> bool:
        return slot in self._by_slot

    def __bool__(self) -> bool:
        return bool(self._all)

    def open(self) -> None:
        """Post the first receives."""
        for each in self._all:
            self._receive(each)

    def version(self, slot: int) -> int:
        """How many clocks' updates the slot holds."""
        return self._by_slot[slot].version

    # -- main thread -------------------------------------------------------------------
    def push(self, slot: ParamSlot) -> None:
        """Take the factors of one pass (of the weights; a bias has none of its own).

        Raises:
            ClusterError: the batch is not of the size that was agreed on.
        """
        each = self._by_slot[slot.index]
        if slot.index != each.pair.weights.index:
            return
        if each.leaving:
            what = Waiting(f"factors of {slot.name} to leave")
            self._courier.wait_for(lambda: not each.leaving, what)
        self._copy(each, slot)
        each.passes += 1

    def send(self, slot: ParamSlot) -> None:
        """Send what was pushed in all passes of this clock."""
        each = self._by_slot[slot.index]
        if slot.index != each.pair.weights.index:
            return
        each.passes = 0
        slices = sum(len(self._slices(part[0])) for part in each.parts)
        each.leaving = slices * (len(self._roles.workers) - 1)
        carrier = self._model.carrier
        carrier.then([slot.index], lambda: self._courier.call(lambda: self._send(each)))

    def is_ready(self, slot: int, version: int) -> bool:
        """Whether the slot holds the updates of all clocks before ``version``."""
        return self._by_slot[slot].version >= version

    def can_work(self) -> bool:
        """Whether `work` would do something."""
        return any(
            self._can_rebuild(each) or self._can_apply(each) for each in self._all
        )

    def work(self) -> list[int]:
        """Rebuild what is complete and update what may be; the slots updated."""
        for each in self._all:
            if self._can_rebuild(each):
                self._rebuild(each)
        done = [each for each in self._all if self._can_apply(each)]
        for each in done:
            self._update(each)
        return [slot.index for each in done for slot in each.pair.slots]

    def missing(self) -> list[str]:
        """Names of the slots whose factors are not all here."""
        return [each.pair.weights.name for each in self._all if each.missing]

    def _copy(self, each: _Gathering, slot: ParamSlot) -> None:
        found = slot.factors()
        rows = each.rows
        if found is None or len(found[0]) != rows:
            got = "none" if found is None else f"{len(found[0])} rows"
            msg = (
                f"{slot.name}: expected factors of {rows} rows a pass, as the first "
                f"batch had, received {got}: with batches that change use --svb off"
            )
            raise ClusterError(msg)
        place = slice(each.passes * rows, (each.passes + 1) * rows)
        slots = [member.index for member in each.pair.slots]
        for part, factor in zip(each.parts, found, strict=True):
            target = part[self._roles.rank, place]
            self._model.carrier.take(slots, factor, target)

    def _rebuild(self, each: _Gathering) -> None:
        """The gradient over all workers, from one product; no rule applied yet."""
        pair = each.pair
        top_diffs, bottoms = (part.reshape(-1, part.shape[-1]) for part in each.parts)
        bias = None if pair.bias is None else pair.bias.index
        self._rebuilder.rebuild(pair.weights.index, bias, top_diffs, bottoms)
        each.is_rebuilt = True
        if self._norm is not None and all(each.is_rebuilt for each in self._all):
            self._norm.factors_done(each.version, self._sum_of_squares())

    def _sum_of_squares(self) -> float:
        slots = [slot for each in self._all for slot in each.pair.slots]
        return self._rebuilder.sum_of_squares(
            [slot.index for slot in slots if slot.lr_mult]
        )

    def _can_rebuild(self, each: _Gathering) -> bool:
        """Whether all factors are here, and what a norm of theirs means is known."""
        return each.is_complete and (self._norm is None or self._is_judged(each))

    def _is_judged(self, each: _Gathering) -> bool:
        return self._verdicts is None or self._verdicts.is_known(each.version)

    def _can_apply(self, each: _Gathering) -> bool:
        """Whether it is rebuilt and the factor that clips its gradient is known.

        Worker 0 may know and tell the norm while others still miss some factors.
        """
        if not each.is_rebuilt or not self._is_judged(each):
            return False
        return self._norm is None or self._norm.clock > each.version

    def _update(self, each: _Gathering) -> None:
        clip = 1.0 if self._norm is None else self._norm.factor
        slots = [slot.index for slot in each.pair.slots]
        self._rebuilder.apply(each.version, slots, self._scale * clip)
        each.version += 1
        each.is_pushed = each.is_rebuilt = False
        self._rebuilder.release(
            each.pair.weights.index,
            lambda: self._courier.call(lambda: self._receive(each)),
        )

    # -- courier's thread --------------------------------------------------------------
    def _send(self, each: _Gathering) -> None:
        """Send the own rows of both parts to every other worker."""
        each.is_pushed = True
        gone = self._leaver(each)
        for peer in self._roles.workers:
            if peer == self._roles.rank:
                continue
            for k, part in enumerate(each.parts):
                for each_slice in self._slices(part[self._roles.rank]):
                    self._courier.send(
                        peer,
                        factors_tag(each.pair.weights.index, k),
                        each_slice,
                        priority=min(each.pair.weights.users),
                        then=gone,
                        label=each.pair.weights.name,
                    )

    def _leaver(self, each: _Gathering) -> Callable[[], None]:
        def gone() -> None:
            each.leaving -= 1

        return gone

    def _receive(self, each: _Gathering) -> None:
        """Post receives for one clock's factors of every other worker."""

        def arrived() -> None:
            each.missing -= 1

        for peer in self._roles.workers:
            if peer == self._roles.rank:
                continue
            for k, part in enumerate(each.parts):
                for each_slice in self._slices(part[peer]):
                    each.missing += 1
                    tag = factors_tag(each.pair.weights.index, k)
                    label = each.pair.weights.name
                    self._courier.receive(peer, tag, each_slice, arrived, label=label)

    def _slices(self, part: Array) -> list[Array]:
        flat = part.reshape(-1)
        count = max(self._slice_bytes // flat.itemsize, 1)
        return [flat[i : i + count] for i in range(0, flat.size, count)]
