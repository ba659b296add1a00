"""Where a worker's main thread waits for values, and works while it waits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from poseidon_caffe.comm.client import RowClient
from poseidon_caffe.comm.courier import Courier, Waiting
from poseidon_caffe.comm.factors import FactorExchange
from poseidon_caffe.comm.model import Model
from poseidon_caffe.comm.rows import Row
from poseidon_caffe.comm.scaling import ScaleFollower

__all__ = ["Gate"]


class Gate:
    """Lets the main thread read a slot once its values are of the version it needs.

    Factor slots are rebuilt here: whoever waits for a row computes meanwhile.

    Args:
        courier: the rank's.
        rows: all rows.
        client: receives their values.
        factors: the slots that travel as factors.
        model: blobs to touch when their values are new.
        follower: of the factor in gradients, or None.
    """

    def __init__(
        self,
        courier: Courier,
        rows: Sequence[Row],
        client: RowClient,
        factors: FactorExchange,
        model: Model,
        follower: ScaleFollower | None = None,
    ) -> None:
        self._courier, self._client, self._factors = courier, client, factors
        self._model, self._follower = model, follower
        self._owners = [row.owner for row in rows]
        self._rows_of: defaultdict[int, list[int]] = defaultdict(list)
        for row in rows:
            for piece in row.pieces:
                self._rows_of[piece.slot].append(row.index)
        self._slots_in = [[piece.slot for piece in row.pieces] for row in rows]
        # Of each row: the iteration that its values were last put in place for, and
        # a version that they were no older than.
        self._settled = [(model.iteration - 1, model.iteration)] * len(rows)

    def rows_of(self, slot: int) -> list[int]:
        """Rows that hold a part of the slot."""
        return self._rows_of.get(slot, [])

    def is_open(self, slot: int, version: int) -> bool:
        """Whether `enter` would not wait."""
        if slot in self._factors:
            return self._factors.is_ready(slot, version)
        return all(self._client.is_ready(row, version) for row in self.rows_of(slot))

    def enter(self, slot: int, version: int, iteration: int) -> None:
        """Return once the slot holds ``version`` or a newer one, in place.

        Newer values are put in place once an iteration only, so that no layer sees
        two versions in one; between iterations also when newer ones are asked for.

        Raises:
            PoseidonError: nothing will come any more.
        """
        while not self.is_open(slot, version):
            if self._factors.can_work():
                self._work()
                continue
            self._courier.wait_for(
                lambda: self.is_open(slot, version) or self._factors.can_work(),
                Waiting(*self._what(slot, version)),
            )
        for row in self.rows_of(slot):
            settled_for, held = self._settled[row]
            if settled_for != iteration or held < version:
                self._settled[row] = (iteration, version)
                self._settle(row)
        self._model.carrier.show(slot)
        if self._follower is not None and self._learns(slot):
            self._follower.follow(version)

    def _learns(self, slot: int) -> bool:
        """Whether updates of the slot wait for a verdict, so that it is known now."""
        travels = slot in self._factors or bool(self.rows_of(slot))
        return travels and not self._model.slots[slot].statistics

    def _settle(self, row: int) -> None:
        for slot in self._slots_in[row]:
            self._model.carrier.quiet(slot)
        if self._client.settle(row):
            for slot in self._slots_in[row]:
                self._model.blobs[slot].touch()

    def _work(self) -> None:
        for slot in self._factors.work():
            self._model.blobs[slot].touch()

    def _what(self, slot: int, version: int) -> tuple[str, int | None]:
        """What is waited for in words, and the rank it comes from."""
        name = self._model.slots[slot].name
        for row in self.rows_of(slot):
            if not self._client.is_ready(row, version):
                return f"values of {name}, row {row}", self._owners[row]
        return f"factors of {name}", None
