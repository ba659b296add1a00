"""Slots of a net on a GPU: what travels are mirrors of them in pinned memory.

A gradient is copied to its mirror on a stream beside the one that computes, as soon as
it is there; the courier sends it when the copy is over.  New values arrive in the
mirror, and are copied back on another stream before the layer's next forward, which
waits for that copy on the device.  So neither the host's main thread nor the GPU waits
for a copy that it does not need.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from poseidon_caffe.backend.protocols import Moment, Transfers
from poseidon_caffe.comm.carrier import ParamBlob
from poseidon_caffe.comm.courier import Courier, Waiting
from poseidon_caffe.net.hooks import ParamSlot
from poseidon_caffe.types import Array, Shape

__all__ = ["Mirror", "MirrorCarrier"]


class Mirror:
    """A parameter as a cluster sees it, `ParamBlob`: NumPy arrays in pinned memory.

    Memory is taken when it is first asked for: what never travels needs none.

    Args:
        blob: of the net, on a device; its values are the mirror's first.
        transfers: make the copies.

    Attributes:
        blob: the same.
        is_newer: the values have changed here since they were last copied back.
        stays: the values are changed on the device; those here are old.
    """

    def __init__(self, blob: ParamBlob, transfers: Transfers) -> None:
        self.blob, self._transfers = blob, transfers
        self.is_newer = self.stays = False
        self._data: Array | None = None
        self._diff: Array | None = None

    @property
    def dtype(self) -> np.dtype:
        """Of the elements."""
        return self.blob.dtype

    @property
    def data(self) -> Array:
        """Values, plain C order."""
        if self._data is None:
            self._data = self._make()
            flat = self.blob.data.reshape(-1)
            self._transfers.fetch(flat, self._data.reshape(-1)).wait()
        return self._data

    @property
    def mutable_cpu_data(self) -> Array:
        """The net's own copy on the host, in no pinned memory."""
        return self.blob.mutable_cpu_data

    @property
    def diff(self) -> Array:
        """Gradient, plain C order; always the same memory."""
        if self._diff is None:
            self._diff = self._make()
        return self._diff

    def gradient_target(self) -> tuple[Array, bool]:
        """``diff`` for who overwrites it, and whether it holds a gradient yet."""
        return self.diff, True

    def _make(self) -> Array:
        values = self.blob.data
        return self._transfers.pinned(values.size, values.dtype).reshape(values.shape)

    def touch(self) -> None:
        """Say that ``data`` changed."""
        if self.stays:
            self.blob.touch()
        else:
            self.is_newer = True


class _State:
    """One slot's copies.

    Attributes:
        mirror: of the slot.
        is_mean: its values are what travels from here.
        fetched: end of the last copy from the device.
        is_held: kernels given since then begin after it.
        stored: end of the last copy to the device.
        given, gone: `MirrorCarrier.then`'s actions so far, and those that were called
            (counted by the main and the courier's thread).
    """

    def __init__(self, mirror: Mirror, *, is_mean: bool) -> None:
        self.mirror, self.is_mean = mirror, is_mean
        self.fetched: Moment | None = None
        self.stored: Moment | None = None
        self.is_held = True
        self.given = self.gone = 0


class MirrorCarrier:
    """`Carrier` between a device and mirrors of its slots.

    Args:
        courier: of this rank.
        slots: of the net.
        blobs: the net's own, by slot index.
        transfers: make the copies.

    Attributes:
        mirrors: what a `Model` should have as its blobs.
    """

    def __init__(
        self,
        courier: Courier,
        slots: Sequence[ParamSlot],
        blobs: Sequence[ParamBlob],
        transfers: Transfers,
    ) -> None:
        self._courier, self._transfers = courier, transfers
        self.mirrors = [Mirror(blob, transfers) for blob in blobs]
        self._states = [
            _State(self.mirrors[slot.index], is_mean=slot.statistics) for slot in slots
        ]
        self._names = [slot.name for slot in slots]

    def zeros(self, shape: Shape, dtype: np.dtype | type) -> Array:
        """A pinned array of zeros."""
        count = int(np.prod(shape, dtype=np.int64))
        return self._transfers.pinned(count, dtype).reshape(shape)

    def fetch(self, slot: ParamSlot) -> None:
        """Begin to copy its gradient (or statistics) to its mirror."""
        self._await_sent(slot.index)
        state = self._states[slot.index]
        mirror = state.mirror
        if state.is_mean:
            source, target = mirror.blob.data, mirror.data
        else:
            source, target = mirror.blob.diff, mirror.diff
        moment = self._transfers.fetch(source.reshape(-1), target.reshape(-1))
        state.fetched, state.is_held = moment, False
        if len(slot.users) > 1:
            # Its gradient may be cleared before the first user's forward is begun.
            self._hold(state)

    def take(self, slots: Sequence[int], factor: Array, target: Array) -> None:
        """Begin to copy a factor by way of memory of its own on the device."""
        moment = self._transfers.snap(factor, target.reshape(-1))
        for slot in slots:
            self._states[slot].fetched = moment

    def fetched(self, slot: int) -> Moment | None:
        """End of the last copy of the slot's from the device; None: there was none."""
        return self._states[slot].fetched

    def then(self, slots: Sequence[int], action: Callable[[], None]) -> None:
        """Call ``action`` in the courier's thread once the copies are over."""
        states = [self._states[slot] for slot in slots]
        moments = [state.fetched for state in states if state.fetched is not None]
        for state in states:
            state.given += 1

        def act() -> None:
            action()
            for state in states:
                state.gone += 1

        self._courier.when(lambda: all(each.done() for each in moments), act)

    def quiet(self, slot: int) -> None:
        """Return once the mirror's values are neither copied nor sent."""
        state = self._states[slot]
        if state.stored is not None:
            state.stored.wait()
            state.stored = None
        if state.is_mean:
            self._await_sent(slot)

    def show(self, slot: int) -> None:
        """Begin to copy new values to the device; the next kernels find them there."""
        state = self._states[slot]
        self._hold(state)
        if not state.mirror.is_newer:
            return
        state.mirror.is_newer = False
        blob = state.mirror.blob
        source, target = state.mirror.data.reshape(-1), blob.data.reshape(-1)
        state.stored = self._transfers.store(source, target, state.fetched)
        blob.touch()

    def _hold(self, state: _State) -> None:
        if not state.is_held and state.fetched is not None:
            self._transfers.hold(state.fetched)
            state.is_held = True

    def _await_sent(self, slot: int) -> None:
        """Return once what was last fetched of the slot has been handed on."""
        state = self._states[slot]
        if state.gone != state.given:
            what = Waiting(f"{self._names[slot]} to be copied from the GPU")
            self._courier.wait_for(lambda: state.gone == state.given, what)
