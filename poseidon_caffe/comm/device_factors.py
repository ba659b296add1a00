"""Factors that go from GPU to GPU, where MPI takes memory of a GPU ("CUDA-aware").

They are gathered on the device, so none passes through this machine's memory: with
GPUDirect not even on its way to the network.  Each rank decides for itself; the bytes
of the messages are the same.  Gradients for the parameter server, whose rule runs on
processors, go through pinned memory as ever.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from poseidon_caffe.backend.protocols import Transfers
from poseidon_caffe.comm.carrier import ParamBlob
from poseidon_caffe.comm.courier import Courier
from poseidon_caffe.comm.mirror import MirrorCarrier
from poseidon_caffe.comm.mirror_rebuilding import MirrorRebuilder
from poseidon_caffe.net.hooks import ParamSlot
from poseidon_caffe.types import Array, Shape

__all__ = ["DeviceFactorCarrier", "DeviceFactorRebuilder"]


class DeviceFactorCarrier(MirrorCarrier):
    """`MirrorCarrier` whose factors stay on the device."""

    def __init__(
        self,
        courier: Courier,
        slots: Sequence[ParamSlot],
        blobs: Sequence[ParamBlob],
        transfers: Transfers,
    ) -> None:
        super().__init__(courier, slots, blobs, transfers)
        # Of the thread's GPU MPI takes memory, and asking for a moment makes ours that.
        courier.call(lambda: transfers.now().wait())

    def zeros(self, shape: Shape, dtype: np.dtype | type) -> Array:
        """An array of zeros on the device."""
        count = int(np.prod(shape, dtype=np.int64))
        return self._transfers.room(count, dtype).reshape(shape)

    def take(self, slots: Sequence[int], factor: Array, target: Array) -> None:
        """Copy a factor within the device."""
        moment = self._transfers.keep(factor, target.reshape(-1))
        for slot in slots:
            self._states[slot].fetched = moment


class DeviceFactorRebuilder(MirrorRebuilder):
    """`MirrorRebuilder` of factors that are on the device already."""

    def rebuild(
        self, weights: int, bias: int | None, top_diffs: Array, bottoms: Array
    ) -> None:
        """Begin to overwrite the gradients with the products over all rows."""
        self._multiply(weights, bias, top_diffs, bottoms)
        # Others' next factors may come when the products are made.
        self._read[weights] = self._transfers.now()
