"""Random fills by explicit generators."""

from __future__ import annotations

from typing import Any, Protocol

from poseidon_caffe.types import Array

__all__ = ["RandomOps"]


class RandomOps(Protocol):
    """Random fills by explicit generators."""

    def bernoulli(self, rng: Any, probability: float, out: Array) -> None:
        """Fill uint8 ``out`` with ones of the given probability."""
