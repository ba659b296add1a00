"""NCCL: means over the GPUs of one machine, through CuPy's binding.

Nothing in this file runs without GPUs, so nothing else is in it.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from poseidon_caffe.backend.gpu.device import Event, pointer
from poseidon_caffe.backend.protocols import Moment, Ops
from poseidon_caffe.errors import BackendError
from poseidon_caffe.types import Array

__all__ = ["NcclId", "NcclReducer", "gpu_identity", "nccl_problem", "new_nccl_id"]

# ncclDataType_t and ncclRedOp_t, from nccl.h.
_TYPES = {"f2": 6, "f4": 7, "f8": 8}
_AVERAGE = 4
_FIRST_VERSION_WITH_AVERAGE = 21000


@dataclass(frozen=True)
class NcclId:
    """A unique id, as plain values that can be sent.

    Attributes:
        values: its bytes, signed or not as CuPy has them.
        is_bytes: CuPy has them as ``bytes`` (since version 14), not as a tuple.
    """

    values: Sequence[int]
    is_bytes: bool

    def raw(self) -> Any:
        """As CuPy wants it."""
        return bytes(self.values) if self.is_bytes else tuple(self.values)


def nccl_problem() -> str | None:
    """Why NCCL cannot be used here; None if it can."""
    try:
        with warnings.catch_warnings():
            # CuPy warns when it finds no library; the reason is told here.
            warnings.simplefilter("ignore")
            from cupy.cuda import nccl
    except ImportError as error:
        return f"CuPy has no NCCL here ({error})"
    if not nccl.available:
        return "CuPy has no NCCL here: install nvidia-nccl-cu12 (or -cu13)"
    version = int(nccl.get_version())
    if version < _FIRST_VERSION_WITH_AVERAGE:
        return f"NCCL {version} is too old: 2.10 or newer is needed"
    return None


def gpu_identity(device: int) -> str:
    """What tells this machine's GPUs apart, whatever numbers processes give them."""
    import cupy

    return str(cupy.cuda.runtime.deviceGetPCIBusId(device))


def new_nccl_id() -> NcclId:
    """What one rank makes and all ranks need to find each other."""
    from cupy.cuda import nccl

    found = nccl.get_unique_id()
    return NcclId([int(byte) for byte in found], is_bytes=isinstance(found, bytes))


class NcclReducer:
    """`Reducer` over NCCL, on a stream beside the one that computes.

    Made on all ranks at once: each waits for all.

    Args:
        ops: the GPU backend of this rank, on a GPU of its own.
        size: how many ranks.
        rank: of this process.
        nccl_id: rank 0's `new_nccl_id`.

    Raises:
        BackendError: NCCL cannot connect the GPUs.
    """

    def __init__(self, ops: Ops, size: int, rank: int, nccl_id: NcclId) -> None:
        from cupy.cuda import nccl

        self._device: Any = cast("Any", ops).device  # GpuOps alone has it
        self._stream: Any = self._device.stream()
        self._error: type[Exception] = nccl.NcclError
        try:
            with self._device.on_this_thread():
                self._raw: Any = nccl.NcclCommunicator(size, nccl_id.raw(), rank)
        except nccl.NcclError as error:
            msg = f"NCCL cannot connect the GPUs: {error}; --nccl off does without"
            raise BackendError(msg) from error

    def mean(self, array: Array) -> Event:
        """See `Reducer.mean`.

        Raises:
            BackendError: NCCL refuses, as when it has lost another rank.
        """
        self._stream.wait_for(self._device.compute.record())
        if array.size:
            place, kind = pointer(array), _TYPES[np.dtype(array.dtype).str[1:]]
            self._device.claim()
            try:
                self._raw.allReduce(
                    place, place, array.size, kind, _AVERAGE, self._stream.raw.ptr
                )
            except self._error as error:
                msg = f"NCCL cannot combine gradients: {error}; --nccl off does without"
                raise BackendError(msg) from error
        event: Event = self._stream.record()
        return event

    def hold(self, moment: Moment) -> None:
        """See `Reducer.hold`."""
        self._device.compute.wait_for(moment)

    def close(self) -> None:
        """Leave; all work must be done."""
        self._device.synchronise()
        self._raw.destroy()
