"""The same inputs for everybody."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.layers.cases import Case

__all__ = ["arrays"]


def arrays(case: Case) -> list[Any]:
    """One float32 array a bottom."""
    rng = np.random.default_rng(1)
    made = []
    for i, shape in enumerate(case.bottoms):
        if i in case.labels:
            made.append(rng.integers(0, case.labels[i], shape).astype(np.float32))
        elif i in case.ones:
            made.append(np.ones(shape, np.float32))
        else:
            x = rng.standard_normal(shape, np.float32)
            made.append(np.abs(x) + np.float32(0.1) if case.positive else x)
    return made
