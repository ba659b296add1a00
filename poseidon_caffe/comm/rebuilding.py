"""Gradients rebuilt from factors, and the slots that every worker updates itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from poseidon_caffe.comm.carrier import Rebuilder
from poseidon_caffe.comm.model import Model
from poseidon_caffe.types import Array, RowPiece

__all__ = ["HostRebuilder", "rebuilder_of"]


def rebuilder_of(model: Model) -> Rebuilder:
    """The model's own, or one that works on its blobs."""
    return model.rebuilder or HostRebuilder(model)


class HostRebuilder:
    """`Rebuilder` on NumPy arrays: the model's blobs.

    Args:
        model: its blobs, ``rebuild`` and ``local_updater`` are used.
    """

    def __init__(self, model: Model) -> None:
        self._model = model

    def rebuild(
        self, weights: int, bias: int | None, top_diffs: Array, bottoms: Array
    ) -> None:
        """Overwrite the gradients with the products over all rows."""
        blobs = self._model.blobs
        # Not by ``diff``, which would first write the zeros that are due.
        db = None if bias is None else blobs[bias].gradient_target()[0]
        dw, _ = blobs[weights].gradient_target()
        self._model.rebuild(bottoms, top_diffs, dw, db)

    def sum_of_squares(self, slots: Sequence[int]) -> float:
        """Of the gradients that were rebuilt."""
        flats = [self._model.blobs[slot].diff.reshape(-1) for slot in slots]
        return sum(float(np.dot(flat, flat)) for flat in flats)

    def apply(self, iteration: int, slots: Sequence[int], scale: float) -> None:
        """Apply the rule to the slots."""
        updater, blobs = self._model.local_updater, self._model.blobs
        pieces = [
            RowPiece(
                slot,
                blobs[slot].data.reshape(-1),
                blobs[slot].diff.reshape(-1),
                updater.history_of(slot),
            )
            for slot in slots
        ]
        updater.apply(iteration, pieces, scale)

    def release(self, weights: int, action: Callable[[], None]) -> None:
        """Nothing reads the factors any more."""
        action()

    def values(self, slots: Sequence[int]) -> list[Array]:
        """The blobs' own."""
        return [self._model.blobs[slot].data for slot in slots]

    def histories(self, slots: Sequence[int]) -> list[Array]:
        """The solver's own."""
        updater = self._model.local_updater
        return [array for slot in slots for array in updater.history_of(slot)]

    def take(self, slots: Sequence[int], arrays: Sequence[Array]) -> None:
        """They are in place."""
