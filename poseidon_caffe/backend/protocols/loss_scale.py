"""Loss scaling: small gradients in float16 are kept from becoming zero."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from poseidon_caffe.backend.protocols.update import UpdateSegment
from poseidon_caffe.types import Array, JsonObject, UpdateRule, UpdateStep

__all__ = ["LossScale", "LossScaleOps"]


class LossScale(Protocol):
    """A factor on all gradients of a net, which follows what they allow.

    It stays where gradients are, so that nobody waits for it.  A process that updates
    by itself calls `update`; in a cluster whose servers do, all workers `watch` what
    they send, `report`, and `follow` what they have found together.
    """

    def weigh(self, diff: Array, weight: float, *, scaled: bool) -> None:
        """Every element of diff = weight, times the factor if ``scaled``."""

    def update(
        self, rule: UpdateRule, step: UpdateStep, segments: Sequence[UpdateSegment]
    ) -> None:
        """`UpdateOps.update` with gradients divided by the factor.

        Where one of them is no finite number nothing is updated, and the factor is
        halved; it doubles after many good steps.

        Raises:
            BackendError: as there.
        """

    def watch(self, array: Array) -> None:
        """Note for `report` whether a gradient, or a factor of one, has overflowed.

        Such are infinite, no numbers, or above 2^48: then neither a sum over workers
        nor a product of two of them need be finite.
        """

    def report(self) -> Array:
        """(factor in the gradients at hand, 1 if one was noted else 0), float32.

        On the device, until the next call; what is noted begins anew.
        """

    def follow(self, used: float, *, overflowed: bool) -> None:
        """Let the factor follow what all workers found, as `update` does.

        Args:
            used: the factor that was in those gradients: where it has been lowered
                since, it is not lowered once more.
            overflowed: a worker has noted one.
        """

    def factor(self) -> float:
        """The present factor, a power of two; waits for the work before."""

    def state(self) -> JsonObject:
        """What an exact resume needs; waits likewise."""

    def restore_state(self, state: JsonObject) -> None:
        """Take back what `state` gave."""


class LossScaleOps(Protocol):
    """Makes loss scales."""

    def loss_scale(self) -> LossScale | None:
        """One for a net in training; None where activations need none."""
