"""Random fills by explicit generators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from poseidon_caffe.types import Array

__all__ = ["RandomOps"]


class RandomOps(Protocol):
    """Random fills by explicit generators.

    Numbers depend on the generator and the shape alone: not on threads nor on the
    memory's layout, and both CPU backends draw the same; a GPU draws others.
    """

    def generator(self, seed_words: Sequence[int]) -> Any:
        """A generator of this backend: NumPy's, or one whose state is on the device.

        Args:
            seed_words: non-negative numbers; the same ones, the same random numbers.
        """

    def bernoulli(self, rng: Any, probability: float, out: Array) -> None:
        """Fill uint8 ``out`` with ones of the given probability."""

    def draw_dropout(
        self,
        rng: Any,
        probability: float,
        scale: float,
        x: Array,
        mask: Array,
        y: Array,
    ) -> None:
        """Fill ``mask`` as `bernoulli` does, and y = x * mask * scale.

        Args:
            rng: of this backend.
            probability: of a one in the mask.
            scale: of what is kept.
            x: of any shape.
            mask: uint8, of x's shape.
            y: of x's shape and type; it may be x.
        """

    def uniform(self, rng: Any, low: float, high: float, out: Array) -> None:
        """Fill ``out`` evenly from [low, high), in float32 steps for any dtype."""

    def normal(self, rng: Any, mean: float, std: float, out: Array) -> None:
        """Fill ``out`` with normal numbers, float32 ones for any dtype."""
