"""Process-wide state of the pycaffe face: mode, device, seed and backend.

Scripts written for pycaffe set these once, by functions of the module; this is
the only place of the library, the command line aside, that remembers anything.
"""

from __future__ import annotations

import os
import secrets
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from poseidon_caffe.backend.gpu.inventory import check_gpu
from poseidon_caffe.backend.gpu.settings import GpuSettings
from poseidon_caffe.backend.protocols import Ops
from poseidon_caffe.backend.select import get_ops
from poseidon_caffe.errors import BackendError, UsageError
from poseidon_caffe.types import fnv1a

__all__ = [
    "BACKEND_VARIABLE",
    "COMPUTE_LOCK",
    "current_ops",
    "has_nccl",
    "next_seed",
    "set_device",
    "set_mode_cpu",
    "set_mode_gpu",
    "set_multiprocess",
    "set_random_seed",
    "set_solver_count",
    "set_solver_rank",
    "solver_count",
    "solver_rank",
    "use_backend",
]

BACKEND_VARIABLE = "POSEIDON_BACKEND"
"""Environment variable that names the backend of nets opened from Python."""

COMPUTE_LOCK = threading.RLock()
"""Held while a net computes: nets of one process share kernels and workspaces.

pycaffe held Python's own lock during a forward, so scripts that use nets from
several threads relied on the same exclusion."""


@dataclass
class _State:
    backend: str | None = None
    gpu: bool = False
    seed: int | None = None
    nets_seeded: int = 0
    device: int = 0
    solver_count: int = 1
    solver_rank: int = 0
    multiprocess: bool = False
    ops: dict[str, Ops] = field(default_factory=dict)


_state = _State()


def current_ops() -> Ops:
    """The backend for the next net: one object per backend name and process."""
    name = _state.backend
    if name is None:
        default = os.environ.get(BACKEND_VARIABLE) or "cpu"
        name = "gpu" if _state.gpu else default
    key = f"gpu {_state.device}" if name == "gpu" else name
    if key not in _state.ops:
        _state.ops[key] = get_ops(name, gpu=GpuSettings(_state.device))
    return _state.ops[key]


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Nets opened inside the block run on backend ``name`` ("cpu", "reference")."""
    before, _state.backend = _state.backend, name
    try:
        yield
    finally:
        _state.backend = before


def set_mode_cpu() -> None:
    """Compute the nets opened from now on on the CPU, which is the default."""
    _state.gpu = False


def set_mode_gpu() -> None:
    """Compute the nets opened from now on on the GPU that `set_device` chose.

    Where there is no usable GPU this warns, saying why, and goes on with the CPU.

    Caffe: a CPU-only build dies at the first layer instead, and the mode is that of
    the moment a net runs; here it is that of the moment a net is opened.
    """
    try:
        check_gpu(_state.device)
    except BackendError as error:
        warnings.warn(
            f"set_mode_gpu(): {error}; nets run on the CPU",
            RuntimeWarning,
            stacklevel=2,
        )
        return
    _state.gpu = True


def set_device(device: int) -> None:
    """Choose the GPU of the nets opened from now on; no effect in CPU mode.

    Raises:
        BackendError: in GPU mode, if there is no such GPU.
    """
    if _state.gpu:
        check_gpu(int(device))
    _state.device = int(device)


def set_random_seed(seed: int) -> None:
    """Make what is random in the nets opened from now on repeatable.

    The first net after this call draws from ``seed`` itself, later ones from seeds
    derived from it, so that two nets do not start with equal weights.

    Caffe: one generator served all nets, those already open too; here a net keeps
    the generators it was opened with.
    """
    _state.seed = int(seed)
    _state.nets_seeded = 0


def next_seed() -> int:
    """The seed of the next net or solver: derived from the set one, or fresh."""
    if _state.seed is None:
        return secrets.randbits(63)
    number = _state.nets_seeded
    _state.nets_seeded += 1
    return _state.seed if number == 0 else fnv1a(f"{_state.seed}/{number}") >> 1


def solver_count() -> int:
    """How many solvers the script says it runs side by side."""
    return _state.solver_count


def set_solver_count(count: int) -> None:
    """Remember how many solvers the script runs side by side.

    Raises:
        UsageError: ``count`` is not positive.
    """
    if count < 1:
        msg = f"set_solver_count({count}): expected a positive number of solvers"
        raise UsageError(msg)
    _state.solver_count = int(count)


def solver_rank() -> int:
    """Which of the solvers this process says it is; 0 is the first."""
    return _state.solver_rank


def set_solver_rank(rank: int) -> None:
    """Say which of the solvers this process is; only rank 0 logs."""
    _state.solver_rank = int(rank)


def set_multiprocess(multiprocess: bool) -> None:  # noqa: FBT001 - pycaffe's signature
    """Remember whether solvers are processes of their own."""
    _state.multiprocess = bool(multiprocess)


def has_nccl() -> bool:
    """Whether GPUs can exchange gradients by NCCL: not in this release."""
    return False
