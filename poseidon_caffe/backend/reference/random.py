"""Random fills by explicit generators."""

from __future__ import annotations

from typing import Any

import numpy as np

from poseidon_caffe.types import Array

__all__ = ["ReferenceRandom"]


class ReferenceRandom:
    """`RandomOps` by numpy.random."""

    def bernoulli(self, rng: Any, probability: float, out: Array) -> None:
        """Fill uint8 ``out`` with ones of the given probability.

        Drawn in C order of the shape, so the same generator gives the same
        mask whatever the memory layout.
        """
        np.less(rng.random(out.shape, dtype=np.float32), probability, out=out)
