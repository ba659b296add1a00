"""Copies between the GPU and pinned memory, on streams beside the one that computes."""

from __future__ import annotations

import numpy as np

from poseidon_caffe.backend.gpu.base import GpuFamily
from poseidon_caffe.backend.gpu.device import Event
from poseidon_caffe.backend.protocols import Moment, Transfers
from poseidon_caffe.types import Array

__all__ = ["GpuTransfer", "GpuTransfers"]


class _Stage:
    """Memory of the device that `GpuTransfers.snap` copies through.

    Attributes:
        memory: of one copy's size.
        free: after the last copy from it.
    """

    def __init__(self, memory: Array) -> None:
        self.memory = memory
        self.free: Event | None = None


class GpuTransfers:
    """`Transfers` of a GPU: a stream for each direction.

    Args:
        ops: the GPU backend.
    """

    def __init__(self, ops: GpuFamily) -> None:
        self._ops = ops
        self._compute = ops.device.compute
        self._down, self._up = ops.device.stream(), ops.device.stream()
        #: By the place that is copied to.
        self._stages: dict[tuple[int, int], _Stage] = {}

    def pinned(self, count: int, dtype: np.dtype | type) -> Array:
        """See `Transfers.pinned`."""
        return self._ops.device.pinned(count, dtype)

    def fetch(self, source: Array, target: Array) -> Event:
        """See `Transfers.fetch`."""
        self._down.wait_for(self._compute.record())
        if source.size:
            self._down.download(source, target)
        return self._down.record()

    def snap(self, source: Array, target: Array) -> Event:
        """See `Transfers.snap`."""
        key = (target.ctypes.data, target.nbytes)
        if key not in self._stages:
            memory = self._ops.memory.zeros(target.size, target.dtype)
            self._stages[key] = _Stage(memory)
        stage = self._stages[key]
        if stage.free is not None:
            self._compute.wait_for(stage.free)
        self._ops.copy(source, stage.memory.reshape(source.shape))
        stage.free = self.fetch(stage.memory, target)
        return stage.free

    def store(self, source: Array, target: Array, after: Moment | None) -> Event:
        """See `Transfers.store`."""
        self._up.wait_for(self._compute.record() if after is None else after)
        if source.size:
            self._up.upload(source, target)
        moment = self._up.record()
        self._compute.wait_for(moment)
        return moment

    def hold(self, moment: Moment) -> None:
        """See `Transfers.hold`."""
        self._compute.wait_for(moment)

    def room(self, count: int, dtype: np.dtype | type) -> Array:
        """See `Transfers.room`."""
        array = self._ops.memory.zeros(count, dtype)
        self.now().wait()  # it is cleared by then
        return array

    def keep(self, source: Array, target: Array) -> Event:
        """See `Transfers.keep`."""
        self._ops.copy(source, target.reshape(source.shape))
        return self.now()

    def now(self) -> Event:
        """See `Transfers.now`."""
        return self._compute.record()


class GpuTransfer(GpuFamily):
    """`TransferOps` on a GPU."""

    def transfers(self) -> Transfers:
        """Two streams more."""
        return GpuTransfers(self)
