"""Gradients rebuilt from factors on the GPU, where the slots' values stay."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from poseidon_caffe.backend.protocols import Moment, Ops, Transfers
from poseidon_caffe.comm.courier import Courier
from poseidon_caffe.comm.mirror import MirrorCarrier
from poseidon_caffe.types import Array, RowPiece, RowUpdater

__all__ = ["MirrorRebuilder"]


class MirrorRebuilder:
    """`Rebuilder` on the device: only factors travel there, values never leave.

    Args:
        courier: of this rank.
        carrier: has the slots' mirrors, and fetches their factors.
        ops: the net's backend.
        transfers: make the copies; the carrier's.
        updater: applies the rule to arrays of the device.
    """

    def __init__(
        self,
        courier: Courier,
        carrier: MirrorCarrier,
        ops: Ops,
        transfers: Transfers,
        updater: RowUpdater,
    ) -> None:
        self._courier, self._carrier = courier, carrier
        self._ops, self._transfers, self._updater = ops, transfers, updater
        #: Gathered factors on the device: top diffs (R, M) and bottoms (R, K).
        self._factors: dict[int, list[Array]] = {}
        #: When they are no longer read where they were gathered.
        self._read: dict[int, Moment] = {}
        self._pinned: dict[tuple[int, int], Array] = {}

    def rebuild(
        self, weights: int, bias: int | None, top_diffs: Array, bottoms: Array
    ) -> None:
        """Begin to overwrite the gradients with the products over all rows."""
        parts = (top_diffs, bottoms)
        # Factors are fetched after the last products of those before them.
        after = self._carrier.fetched(weights)
        if weights not in self._factors:
            self._factors[weights] = [self._room(part) for part in parts]
            after = None  # new memory is being cleared
        arrays = self._factors[weights]
        for part, array in zip(parts, arrays, strict=True):
            source, target = part.reshape(-1), array.reshape(-1)
            self._read[weights] = self._transfers.store(source, target, after)
        self._multiply(weights, bias, *arrays)

    def _multiply(self, weights: int, bias: int | None, dy: Array, x: Array) -> None:
        mirrors = self._carrier.mirrors
        for slot in (weights,) if bias is None else (weights, bias):
            mirrors[slot].stays = True
        # Not by ``diff``, which would first write the zeros that are due.
        db = None if bias is None else mirrors[bias].blob.gradient_target()[0]
        dw, _ = mirrors[weights].blob.gradient_target()
        self._ops.inner_product_backward_weights(x, dy, dw, db)

    def _room(self, part: Array) -> Array:
        return self._ops.memory.zeros(part.size, part.dtype).reshape(part.shape)

    def sum_of_squares(self, slots: Sequence[int]) -> float:
        """Of the gradients that were rebuilt; waits for the device."""
        mirrors = self._carrier.mirrors
        return self._ops.sumsq_of(
            [mirrors[slot].blob.diff.reshape(-1) for slot in slots]
        )

    def apply(self, iteration: int, slots: Sequence[int], scale: float) -> None:
        """Begin to apply the rule to the slots."""
        pieces = []
        for slot in slots:
            blob = self._carrier.mirrors[slot].blob
            data, diff = blob.data.reshape(-1), blob.diff.reshape(-1)
            pieces.append(RowPiece(slot, data, diff, self._updater.history_of(slot)))
        self._updater.apply(iteration, pieces, scale)

    def release(self, weights: int, action: Callable[[], None]) -> None:
        """Call ``action`` in the courier's thread once the factors are copied."""
        self._courier.when(self._read[weights].done, action)

    def values(self, slots: Sequence[int]) -> list[Array]:
        """Copies of the values on the device."""
        blobs = [self._carrier.mirrors[slot].blob for slot in slots]
        return [
            self._copy(slot, 0, blob.data.reshape(-1))
            for slot, blob in zip(slots, blobs, strict=True)
        ]

    def histories(self, slots: Sequence[int]) -> list[Array]:
        """Copies of the history on the device."""
        return [
            self._copy(slot, 1 + k, array)
            for slot in slots
            for k, array in enumerate(self._updater.history_of(slot))
        ]

    def _copy(self, slot: int, which: int, array: Array) -> Array:
        key = (slot, which)
        if key not in self._pinned:
            self._pinned[key] = self._transfers.pinned(array.size, array.dtype)
        self._transfers.fetch(array, self._pinned[key]).wait()
        return self._pinned[key]

    def take(self, slots: Sequence[int], arrays: Sequence[Array]) -> None:
        """Put values, then histories, of the slots in place."""
        targets = [
            *(self._carrier.mirrors[slot].blob.data.reshape(-1) for slot in slots),
            *(a for slot in slots for a in self._updater.history_of(slot)),
        ]
        for source, target in zip(arrays, targets, strict=True):
            self._transfers.store(source, target, None).wait()
