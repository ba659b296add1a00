"""The owner's side of the rows: sum in rank order, apply the rule once, hand back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from poseidon_caffe.comm.courier import Courier
from poseidon_caffe.comm.memory import unpack
from poseidon_caffe.comm.model import Model, Roles
from poseidon_caffe.comm.norm import NormBoard
from poseidon_caffe.comm.rows import Row
from poseidon_caffe.comm.summing import OrderedSum
from poseidon_caffe.comm.tags import gradient_tag
from poseidon_caffe.comm.verdict import VerdictBoard
from poseidon_caffe.types import Array, RowPiece

__all__ = ["Delivery", "RowServer", "RowState"]


class Delivery(Protocol):
    """How new values reach the workers, and what a server's memory must allow."""

    def master(self, row: Row) -> list[Array]:
        """Flat views of the values that the server updates, one a piece."""

    def buffer(self, row: Row, worker: int) -> Array:
        """An array to receive the worker's next gradient into."""

    def free(self, row: Row, buffer: Array) -> None:
        """Take back an array that `buffer` gave."""

    def deliver(self, row: Row, version: int) -> None:
        """Send the master values, of ``version`` now, to every worker."""

    #: Whether the next clock's gradients may come before this one's are used up.
    receives_ahead: bool


class RowState:
    """One owned row: its sum under way, the values it masters and their history."""

    def __init__(
        self, row: Row, master: list[Array], model: Model, gradients: OrderedSum
    ) -> None:
        self.row, self.master, self.sum = row, master, gradients
        self.version = model.iteration
        self._counts = [model.counts(piece.slot) for piece in row.pieces]
        self._counts_whole = all(self._counts)
        self._moves = [piece.slot not in model.frozen for piece in row.pieces]
        #: One tuple a piece; what never moves has none, and neither has a mean.
        self.history = [
            tuple(
                array[piece.start : piece.stop]
                for array in (model.updater.history_of(piece.slot) if moves else ())
            )
            for piece, moves in zip(row.pieces, self._moves, strict=True)
            if not row.is_mean
        ]

    def clipped(self) -> list[Array]:
        """The stretches of the complete sum that count in the gradient's norm."""
        if self._counts_whole:
            return [self.sum.total]
        return [
            piece.diff
            for piece, counts in zip(self.pieces(), self._counts, strict=True)
            if counts
        ]

    def moving(self) -> list[RowPiece]:
        """The `pieces` that the rule is for; the others count in the norm only."""
        pieces = zip(self.pieces(), self._moves, strict=True)
        return [piece for piece, moves in pieces if moves]

    def pieces(self) -> list[RowPiece]:
        """The complete sum beside the values and histories it changes."""
        found, at = [], 0
        total = self.sum.total
        for piece, data, history in zip(
            self.row.pieces, self.master, self.history, strict=True
        ):
            diff = total[at : at + data.size]
            found.append(RowPiece(piece.slot, data, diff, history))
            at += data.size
        return found


class RowServer:
    """Serves the rows that this rank owns; lives in the courier's thread.

    Args:
        courier: the rank's.
        rows: all rows; those of other owners are left alone.
        model: parameters, rule and history.
        roles: of this rank.
        delivery: how values get back.
        norm: where norms of gradients meet when they are clipped, else None.
        verdicts: without which no gradient is applied, where they are scaled.
    """

    def __init__(
        self,
        courier: Courier,
        rows: Sequence[Row],
        model: Model,
        roles: Roles,
        delivery: Delivery,
        norm: NormBoard | None,
        verdicts: VerdictBoard | None = None,
    ) -> None:
        self._courier, self._model, self._roles = courier, model, roles
        self._delivery, self._norm, self._verdicts = delivery, norm, verdicts
        self._scale = 1.0 / (len(roles.workers) * model.iter_size)
        self.states: dict[int, RowState] = {}
        for row in rows:
            if row.owner == roles.rank:
                free = self._freer(row)
                gradients = OrderedSum(len(roles.workers), free)
                master = delivery.master(row)
                self.states[row.index] = RowState(row, master, model, gradients)
        self._unsummed = self._clipped_rows()
        if norm is not None:
            norm.on_known = self._apply_clipped
        if verdicts is not None:
            verdicts.on_known = self._advance_all

    def open(self) -> None:
        """Post the first receives."""
        if self._norm is not None and not self._clipped_rows():
            self._norm.rows_done(self._model.iteration, 0.0)
        for state in self.states.values():
            for worker in self._roles.workers:
                if worker != self._roles.rank:
                    self._receive(state, worker)

    def contribute(self, row: int, gradient: Array, *, is_private: bool) -> None:
        """The gradient of the worker beside this server."""
        self._add(self.states[row], self._roles.rank, gradient, is_private=is_private)

    def missing(self) -> list[tuple[Row, list[int]]]:
        """Rows whose sums are not complete, with the workers that are late."""
        return [
            (state.row, state.sum.missing)
            for state in self.states.values()
            if not state.sum.is_complete
        ]

    # -- receiving ---------------------------------------------------------------------
    def _receive(self, state: RowState, worker: int) -> None:
        row = state.row
        buffer = self._delivery.buffer(row, worker)

        def arrived() -> None:
            if self._delivery.receives_ahead:
                self._receive(state, worker)
            self._add(state, worker, buffer, is_private=True)

        tag = gradient_tag(row.index)
        self._courier.receive(
            worker, tag, buffer, arrived, label=self._model.label(row)
        )

    def _freer(self, row: Row) -> Callable[[Array], None]:
        return lambda buffer: self._delivery.free(row, buffer)

    def _add(
        self, state: RowState, worker: int, gradient: Array, *, is_private: bool
    ) -> None:
        with np.errstate(all="ignore"):  # overflow shows in the loss, or is judged
            state.sum.add(worker, gradient, is_private=is_private)
            self._advance(state)

    @np.errstate(all="ignore")
    def _advance_all(self) -> None:
        """Update all rows that have waited for a verdict."""
        for state in self.states.values():
            if not state.row.is_mean:
                self._advance(state)

    def _is_judged(self, state: RowState) -> bool:
        if self._verdicts is None or state.row.is_mean:
            return True
        return self._verdicts.is_known(state.version)

    def _advance(self, state: RowState) -> None:
        while state.sum.is_complete and self._is_judged(state):
            if self._norm is not None and not state.row.is_mean:
                self._summed(state)
                return
            self._finish(state, self._scale)

    # -- updating ----------------------------------------------------------------------
    def _finish(self, state: RowState, scale: float) -> None:
        """The clock's update of one row, and its delivery."""
        if state.row.is_mean:
            mean = np.multiply(state.sum.total, 1.0 / len(self._roles.workers))
            unpack(mean, state.master)
        else:
            self._model.updater.apply(state.version, state.moving(), scale)
        state.version += 1
        state.sum.reset()
        if not self._delivery.receives_ahead:
            for worker in self._roles.workers:
                if worker != self._roles.rank:
                    self._receive(state, worker)
        self._delivery.deliver(state.row, state.version)

    def _clipped_rows(self) -> int:
        return sum(not state.row.is_mean for state in self.states.values())

    def _summed(self, state: RowState) -> None:
        """A sum is complete; with the last one this server's norm is known."""
        assert self._norm is not None
        self._unsummed -= 1
        if self._unsummed:
            return
        self._unsummed = self._clipped_rows()
        total = 0.0
        for each in self.states.values():
            if not each.row.is_mean:
                total += sum(float(np.dot(part, part)) for part in each.clipped())
        self._norm.rows_done(state.version, total)

    def _apply_clipped(self, clip: float) -> None:
        """Every rank's norm is in: ``clip`` brings the whole gradient in bounds."""
        assert self._norm is not None
        for state in self.states.values():
            if not state.row.is_mean:
                self._finish(state, self._scale * clip)
        if not self._clipped_rows():
            self._norm.rows_done(self._norm.clock, 0.0)
