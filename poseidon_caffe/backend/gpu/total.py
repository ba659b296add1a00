"""The loss of a net on the device, downloaded once a pass."""

from __future__ import annotations

import numpy as np

from poseidon_caffe.backend.gpu.faults import GpuFaults
from poseidon_caffe.types import Array

__all__ = ["DeviceTotal", "GpuTotal"]


class DeviceTotal:
    """`LossTotal` of device arrays.

    Args:
        ops: the GPU backend.
    """

    def __init__(self, ops: GpuTotal) -> None:
        self._ops = ops
        #: The sum, and how many faults kernels have met so far.
        self._there = ops.memory.zeros(2, np.float64)
        self._here = ops.device.pinned(2, np.float64)

    def clear(self) -> None:
        """Begin a pass with 0."""
        self._ops.memory.clear(self._there)

    def add(self, loss: Array, weight: Array) -> None:
        """Add the sum of loss * weight."""
        ops = self._ops
        with ops.alike([loss, weight], []) as ((one, other), _):
            ops.kernels("total").blocks(
                "add_dot", loss.dtype, 1, one, other, loss.size, self._there,
                ops.fault_count,
            )  # fmt: skip

    def read(self) -> float:
        """The sum; one copy of 16 bytes."""
        self._ops.memory.download(self._there, self._here)
        if self._here[1]:
            self._ops.raise_faults()
        return float(self._here[0])


class GpuTotal(GpuFaults):
    """`TotalOps` on a GPU: the loss comes with the number of faults met."""

    def loss_total(self) -> DeviceTotal:
        """A total for one net."""
        return DeviceTotal(self)
