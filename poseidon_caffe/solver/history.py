"""The solver's history: one flat array per parameter and rule quantity."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from poseidon_caffe.backend.memory import HOST, Buffer, make_buffer
from poseidon_caffe.backend.protocols import Memory
from poseidon_caffe.errors import SnapshotError
from poseidon_caffe.net.hooks import ParamSlot
from poseidon_caffe.net.net import Net
from poseidon_caffe.net.param_groups import place_group
from poseidon_caffe.types import Array, Shape

__all__ = ["History"]


class History:
    """Zero at first; laid out as in Caffe's solverstate.

    On the host until kernels ask for it: what a cluster's servers keep, and a snapshot
    restores on all ranks, takes no memory of a device.

    All parameters' first quantity, then all parameters' second one (AdaDelta's
    averages of squared updates, Adam's second moments).

    Args:
        slots: the net's learnable parameters.
        count: quantities per parameter, `UpdateRule.history_count`.
        dtype: of the parameters.
        memory: where kernels want it; ``ops.memory``.

    Attributes:
        shapes: parameter shape of each array, in file order.
    """

    def __init__(
        self,
        slots: Sequence[ParamSlot],
        count: int,
        dtype: np.dtype | type,
        memory: Memory = HOST,
    ) -> None:
        self._dtype, self._memory, self._slots = dtype, memory, len(slots)
        self._names = [slot.name for slot in slots] * count
        self.shapes: list[Shape] = [slot.shape for slot in slots] * count
        self._sizes = [math.prod(shape) for shape in self.shapes]
        #: Empty until somebody needs it: an empty one is zero.
        self._buffers = [Buffer(dtype) for _ in self.shapes]

    @classmethod
    def of_net(cls, net: Net, count: int) -> History:
        """Zeros for a net's parameters, of their type and in their memory."""
        dtypes = [blob.dtype for blob in net.learnable] or [np.dtype(np.float32)]
        return cls(net.slots, count, dtypes[0], net.ops.memory)

    def gather(self, slots: Sequence[ParamSlot]) -> list[Array]:
        """Move these parameters' arrays side by side; one flat array a quantity.

        They lie as `net.param_groups.place_group` says.  Kernels that work on them
        need `to_device` of each parameter before.
        """
        places, total = place_group(slots)
        whole = []
        for quantity in range(len(self._buffers) // max(self._slots, 1)):
            memory = self._memory.zeros(total, self._dtype)
            for slot, place in zip(slots, places, strict=True):
                i = quantity * self._slots + slot.index
                self._replace(i, self._memory, memory[place])
            whole.append(memory)
        return whole

    def of(self, slot: int) -> tuple[Array, ...]:
        """The flat arrays of one parameter for kernels, one per quantity, live."""
        self.to_device(slot)
        found = []
        for i in range(slot, len(self._buffers), self._slots):
            shape = (self._sizes[i],)
            found.append(self._buffers[i].view(shape, channels_last=False))
        return tuple(found)

    def to_device(self, slot: int) -> None:
        """Let kernels see, and change, what one parameter's arrays hold."""
        for i in range(slot, len(self._buffers), self._slots):
            if self._buffers[i].memory.is_host and not self._memory.is_host:
                self._replace(i, self._memory)
            self._buffers[i].to_device()

    def keep_on_host(self, slot: int) -> None:
        """Let one parameter's arrays be NumPy arrays from now on, live for good.

        What a cluster's servers update, whose kernels run on the host.
        """
        for i in range(slot, len(self._buffers), self._slots):
            if not self._buffers[i].memory.is_host:
                self._replace(i, HOST)

    def host_of(self, slot: int) -> tuple[Array, ...]:
        """The flat NumPy arrays of one parameter, one per quantity, to write.

        They are live as long as no kernel uses the parameter's history.
        """
        own = range(slot, len(self._buffers), self._slots)
        return tuple(self._host(i, write=True) for i in own)

    def shaped(self, *, write: bool = False) -> list[Array]:
        """Every array in its parameter's shape, in file order, as a NumPy array.

        Args:
            write: whether they may be written, until a kernel uses the history.
        """
        return [
            self._host(i, write=write).reshape(shape)
            for i, shape in enumerate(self.shapes)
        ]

    def _host(self, index: int, *, write: bool = False) -> Array:
        return self._buffers[index].to_host(self._sizes[index], write=write)

    def _replace(self, index: int, memory: Memory, raw: Array | None = None) -> None:
        """Move one array to ``memory``, to ``raw`` there if that is given."""
        old = None if self._is_zero(index) else self._host(index)
        self._buffers[index] = make_buffer(self._dtype, memory)
        if raw is not None:
            self._buffers[index].move(raw)
        # Zeros need no copy; pages that nobody writes cost no memory, which is what a
        # cluster's sharded history lives on.
        if old is not None:
            self._host(index, write=True)[...] = old

    def _is_zero(self, index: int) -> bool:
        return not self._buffers[index].raw.size or not self._host(index).any()

    def check(self, arrays: Sequence[Array], origin: str) -> None:
        """Raise SnapshotError, listing every misfit, unless `load` can take them."""
        if len(arrays) != len(self._buffers):
            msg = (
                f"{origin}: it holds {len(arrays)} history blobs, the solver needs "
                f"{len(self._buffers)}: it is of another net or solver type"
            )
            raise SnapshotError(msg)
        problems = [
            f"history {i} ({name}): the solver has {shape}, the file {array.shape}"
            for i, (name, shape, array) in enumerate(
                zip(self._names, self.shapes, arrays, strict=True)
            )
            if not _fits(array.shape, shape)
        ]
        if problems:
            msg = (
                f"{origin}: {len(problems)} history blob(s) do not fit the net: "
                + "; ".join(problems)
            )
            raise SnapshotError(msg)

    def load(self, arrays: Sequence[Array]) -> None:
        """Take values that `check` accepted."""
        for own, array in zip(self.shaped(write=True), arrays, strict=True):
            own[...] = array.reshape(own.shape)

    def is_zero(self, slot: int) -> bool:
        """Whether nothing has been learned about this parameter."""
        own = range(slot, len(self._buffers), self._slots)
        return all(self._is_zero(i) for i in own)


def _fits(stored: Shape, wanted: Shape) -> bool:
    """Whether shapes agree but for axes of length 1 (old files have four axes)."""
    return [n for n in stored if n != 1] == [n for n in wanted if n != 1]
