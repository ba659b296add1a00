"""A model whose gradients have a factor in them, taken out where rules are applied.

Nothing of it is in the way of a model without: each part stands around one of the
`Model`'s own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from poseidon_caffe.comm.carrier import Carrier, GradientScale, Rebuilder
from poseidon_caffe.comm.courier import Courier, Waiting
from poseidon_caffe.comm.model import Model
from poseidon_caffe.comm.rebuilding import rebuilder_of
from poseidon_caffe.comm.verdict import VerdictBoard
from poseidon_caffe.net.hooks import ParamSlot
from poseidon_caffe.types import Array, RowPiece, RowUpdater, Shape

__all__ = ["ScaleFollower", "scaled_model"]


def scaled_model(model: Model, verdicts: VerdictBoard) -> Model:
    """``model``, which has a `GradientScale`, with that around what it says of."""
    assert model.scale is not None
    return replace(
        model,
        updater=_ScaledUpdater(model.updater, verdicts),
        rebuilder=_ScaledRebuilder(rebuilder_of(model), verdicts),
        carrier=_WatchingCarrier(model.carrier, model.scale),
    )


class ScaleFollower:
    """Tells the others of this worker's gradients, and follows what all found.

    Every worker follows the verdicts of the same iterations before the same one, so
    all have one factor in it, stale or not.

    Args:
        courier: the rank's.
        scale: of this worker's net.
        verdicts: of all workers.
        clock: the first iteration.
    """

    def __init__(
        self, courier: Courier, scale: GradientScale, verdicts: VerdictBoard, clock: int
    ) -> None:
        self._courier, self._scale, self._verdicts = courier, scale, verdicts
        self._followed = clock

    def report(self, clock: int) -> None:
        """The iteration's gradients are all on their way; main thread."""
        verdicts = self._verdicts
        self._scale.report(
            lambda factor, overflowed: verdicts.report(
                clock, factor, overflowed=overflowed
            )
        )

    def follow(self, version: int) -> None:
        """Let the factor follow all iterations before ``version``; main thread.

        Waits for their verdicts: what updates are made of them has waited too.
        """
        if self._followed >= version:
            return
        what = Waiting("whether a gradient has overflowed on some rank")
        self._courier.wait_for(lambda: self._verdicts.is_known(version - 1), what)
        for clock in range(self._followed, version):
            verdict = self._verdicts.of(clock)
            self._scale.follow(verdict.factor, overflowed=verdict.overflowed)
        self._followed = version


class _ScaledUpdater:
    """`RowUpdater` of iterations that are judged: divides, or leaves all as it is."""

    def __init__(self, updater: RowUpdater, verdicts: VerdictBoard) -> None:
        self._updater, self._verdicts = updater, verdicts
        self.history_count = updater.history_count

    def history_of(self, slot: int) -> tuple[Array, ...]:
        """The updater's own."""
        return self._updater.history_of(slot)

    def apply(self, iteration: int, pieces: Sequence[RowPiece], scale: float) -> None:
        """Apply the rule unless a gradient of the iteration overflowed."""
        verdict = self._verdicts.of(iteration)
        if not verdict.overflowed:
            self._updater.apply(iteration, pieces, scale / verdict.factor)


class _ScaledRebuilder:
    """`Rebuilder` likewise."""

    def __init__(self, rebuilder: Rebuilder, verdicts: VerdictBoard) -> None:
        self._rebuilder, self._verdicts = rebuilder, verdicts
        self.sum_of_squares = rebuilder.sum_of_squares
        self.release = rebuilder.release
        self.values, self.histories = rebuilder.values, rebuilder.histories
        self.take = rebuilder.take

    @np.errstate(all="ignore")
    def rebuild(
        self, weights: int, bias: int | None, top_diffs: Array, bottoms: Array
    ) -> None:
        """Overwrite the gradients with what may be no finite numbers."""
        self._rebuilder.rebuild(weights, bias, top_diffs, bottoms)

    def apply(self, iteration: int, slots: Sequence[int], scale: float) -> None:
        """Apply the rule unless a gradient of the iteration overflowed."""
        verdict = self._verdicts.of(iteration)
        if not verdict.overflowed:
            self._rebuilder.apply(iteration, slots, scale / verdict.factor)


class _WatchingCarrier:
    """`Carrier` that looks at all gradients and factors that it moves."""

    def __init__(self, carrier: Carrier, scale: GradientScale) -> None:
        self._carrier, self._scale = carrier, scale

    def zeros(self, shape: Shape, dtype: np.dtype | type) -> Array:
        """The carrier's."""
        return self._carrier.zeros(shape, dtype)

    def fetch(self, slot: ParamSlot) -> None:
        """Begin to bring it; kernels look at it meanwhile."""
        self._carrier.fetch(slot)
        if not slot.statistics:
            self._scale.watch_gradient(slot.index)

    def take(self, slots: Sequence[int], factor: Array, target: Array) -> None:
        """Begin to copy it; kernels look at it meanwhile."""
        self._carrier.take(slots, factor, target)
        self._scale.watch_factor(factor)

    def then(self, slots: Sequence[int], action: Callable[[], None]) -> None:
        """The carrier's."""
        self._carrier.then(slots, action)

    def quiet(self, slot: int) -> None:
        """The carrier's."""
        self._carrier.quiet(slot)

    def show(self, slot: int) -> None:
        """The carrier's."""
        self._carrier.show(slot)
