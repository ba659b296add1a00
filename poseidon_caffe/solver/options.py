"""How a solver is run, besides what the prototxt says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from poseidon_caffe.net.net import NetOptions

__all__ = ["Callbacks", "SolverOptions"]


@dataclass(frozen=True)
class SolverOptions:
    """Settings of the program, not of the model.

    Attributes:
        net: how the train net may be run (fusing, shared memory, prefetch).
        test_net: the same for test nets; None: as ``net``.
        dtype: floating type of all blobs.
        seed: used when ``random_seed`` is not set; None draws one from the system.
        divide_batch: workers that share the batch which the train net asks for
            (strong scaling); 1: each has such a batch of its own.
    """

    net: NetOptions = field(default_factory=NetOptions)
    test_net: NetOptions | None = None
    dtype: type = np.float32
    seed: int | None = None
    divide_batch: int = 1


@dataclass
class Callbacks:
    """Functions called inside each iteration, as pycaffe's ``add_callback``.

    Attributes:
        on_start: before the gradients are cleared and computed.
        on_gradients_ready: after backward, before the update.
    """

    on_start: list[Callable[[], None]] = field(default_factory=list)
    on_gradients_ready: list[Callable[[], None]] = field(default_factory=list)
