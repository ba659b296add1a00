"""Where gradients meet in one process: nowhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from poseidon_caffe.types import Array, JsonObject

__all__ = ["LocalSync"]


class LocalSync:
    """`GradientSync` of one process: always ready, and agreed with itself."""

    def wait(self, slot: int) -> None:
        """Nothing to wait for."""

    def updates_locally(self, slot: int) -> bool:
        """Always."""
        return True

    def average(self, values: Array, then: Callable[[Array], None]) -> None:
        """One worker's values are the mean."""
        then(values)

    def sum_in_order(self, values: Sequence[Array], count: int) -> Array:
        """The sum of all ``count`` arrays, which are all here; a new array."""
        total = values[0].copy()
        for array in values[1:]:
            total += array
        return total

    def agree(self, requests: int) -> int:
        """Nobody else asks for anything."""
        return requests

    def gather(self, item: JsonObject) -> list[JsonObject] | None:
        """The one worker's."""
        return [item]

    def collect_history(self) -> None:
        """All of it is here."""
