"""``caffe.NCCL``: there as a name, as in a Caffe built without it."""

from __future__ import annotations

from typing import Any, NoReturn

from poseidon_caffe.errors import BackendError

__all__ = ["NCCL"]

_HINT = (
    "caffe.NCCL: this release exchanges no gradients between the GPUs of a script "
    "(caffe.has_nccl() is False); train with `mpirun -n N poseidon train` instead"
)


class NCCL:
    """Gradient exchange between solvers on several GPUs.

    Raises:
        BackendError: always, in this release; ask `has_nccl` first.
    """

    def __init__(self, solver: Any, uid: Any) -> None:
        raise BackendError(_HINT)

    @staticmethod
    def new_uid() -> NoReturn:
        """A name that solvers meet under."""
        raise BackendError(_HINT)

    def bcast(self) -> NoReturn:
        """Send the root solver's parameters to all others."""
        raise BackendError(_HINT)
