"""Numeric gradients: what a backward pass must agree with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray


def numeric_gradient(
    loss: Callable[[NDArray[np.float64]], float],
    x: NDArray[np.float64],
    step: float = 1e-5,
) -> NDArray[np.float64]:
    """d loss / d x by central differences, in double precision.

    ``loss`` gets a copy of ``x`` with one element moved and must not keep it.
    """
    x = np.array(x, np.float64)
    gradient = np.empty_like(x)
    for place in np.ndindex(x.shape):
        here = x[place]
        x[place] = here + step
        above = loss(x.copy())
        x[place] = here - step
        below = loss(x.copy())
        x[place] = here
        gradient[place] = (above - below) / (2 * step)
    return gradient
