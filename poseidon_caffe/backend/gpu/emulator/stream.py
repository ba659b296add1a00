"""Streams and events of the emulated GPU, and when their work is done.

Without a `Schedule` everything is done when it is given, so that a forgotten event
never shows.  With one, streams run ahead of each other and behind the host, as far as
events permit: what does not wait for what it needs then works with wrong numbers.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from poseidon_caffe.backend.gpu.device import CopyCounter
from poseidon_caffe.backend.gpu.emulator.array import host_view
from poseidon_caffe.errors import BackendError
from poseidon_caffe.types import Array

__all__ = ["EmulatedEvent", "EmulatedStream", "Schedule"]

#: How often one may ask for an event in vain.
_PATIENCE = 3

_Work: TypeAlias = "Callable[[], None] | EmulatedEvent"


class Schedule:
    """When streams work, besides when they must.

    Each time any stream is given work, each in turn does pieces of its own: after
    each, it goes on with the given probability.  So 1 is as early as events permit,
    0 as late as somebody waits.

    Args:
        compute: probability of the compute stream.
        others: of the other streams.
        seed: of what is random.
    """

    def __init__(
        self, compute: float = 0.5, others: float = 0.5, seed: int = 0
    ) -> None:
        self._chances = (compute, others)
        self._random = random.Random(seed)
        self._streams: list[EmulatedStream] = []
        self.lock = threading.RLock()

    def add(self, stream: EmulatedStream) -> None:
        """Take care of a stream; the first is the one that computes."""
        with self.lock:
            self._streams.append(stream)

    def work(self) -> None:
        """Let all streams do what they like."""
        streams = list(enumerate(self._streams))
        self._random.shuffle(streams)
        for number, stream in streams:
            chance = self._chances[min(number, 1)]
            while self._random.random() < chance and stream.step():
                pass


class EmulatedEvent:
    """The point after so many pieces of a stream's work."""

    def __init__(self, stream: EmulatedStream, count: int) -> None:
        self._stream, self._count = stream, count
        self._asked = 0

    def done(self) -> bool:
        """Whether the work before it is done; who asks often waits for it."""
        self._asked += 1
        if self._asked > _PATIENCE:
            self.wait()
        return self.happened

    @property
    def happened(self) -> bool:
        """Whether the work before it is done."""
        return self._stream.done >= self._count

    def wait(self) -> None:
        """Do the work before it, if it is not done."""
        self._stream.finish(self._count)


class EmulatedStream:
    """Work in order.

    Args:
        copies: counts copies between host and device.
        schedule: when it is done, None for at once.

    Attributes:
        captured: gets the work instead while a graph is recorded.
        done: pieces of work done so far.
    """

    def __init__(self, copies: CopyCounter, schedule: Schedule | None) -> None:
        self.captured: list[Callable[[], None]] | None = None
        self.done = 0
        self._given = 0
        self._left: deque[_Work] = deque()
        self._copies, self._schedule = copies, schedule
        if schedule is not None:
            schedule.add(self)

    def give(self, work: _Work) -> None:
        """Do a piece of work in turn: at once, when the schedule says so, or never."""
        if self.captured is not None:
            if not isinstance(work, EmulatedEvent):
                self.captured.append(work)
        elif self._schedule is None:
            if not isinstance(work, EmulatedEvent):
                work()
        else:
            with self._schedule.lock:
                self._left.append(work)
                self._given += 1
                self._schedule.work()

    def step(self) -> bool:
        """Do one piece, unless there is none or it waits for another stream."""
        if not self._left:
            return False
        work = self._left[0]
        if isinstance(work, EmulatedEvent):
            if not work.happened:
                return False
            work = _nothing
        self._left.popleft()
        work()
        self.done += 1  # only now: other threads look at it
        return True

    def finish(self, count: int | None = None) -> None:
        """Do all that was given, or the first ``count`` pieces of it."""
        if self._schedule is None:
            return
        with self._schedule.lock:
            last = self._given if count is None else count
            while self.done < last:
                first = self._left[0]
                if isinstance(first, EmulatedEvent):
                    first.wait()
                self.step()

    def refuse_in_capture(self, way: str) -> None:
        """Raise BackendError while a graph is recorded: a GPU would refuse."""
        if self.captured is not None:
            raise BackendError(f"a copy {way} while a graph is captured")

    # -- what `Stream` has -----------------------------------------------------------
    def record(self) -> EmulatedEvent:
        """The point after everything given so far."""
        return EmulatedEvent(self, self._given)

    def wait_for(self, event: Any) -> None:
        """Do what is given from now on after ``event``."""
        self.give(event)

    def upload(self, source: Array, target: Any) -> None:
        """Copy a NumPy array to the device."""
        self.refuse_in_capture("host to device")
        _check_whole(source, target)
        self._copies.to_device += 1
        self._copies.to_device_bytes += source.nbytes
        there = host_view(target)
        self.give(lambda: np.copyto(there, source, casting="no"))

    def download(self, source: Any, target: Array) -> None:
        """Copy to a NumPy array."""
        self.refuse_in_capture("device to host")
        _check_whole(source, target)
        self._copies.to_host += 1
        self._copies.to_host_bytes += target.nbytes
        there = host_view(source)
        self.give(lambda: np.copyto(target, there, casting="no"))

    def copy(self, source: Any, target: Any) -> None:
        """Copy within the device."""
        _check_whole(source, target)
        old, new = host_view(source), host_view(target)
        self.give(lambda: np.copyto(new, old, casting="no"))


def _check_whole(source: Any, target: Any) -> None:
    """Raise BackendError where CUDA, which copies bytes as they lie, would mix them."""
    whole = source.flags.c_contiguous and target.flags.c_contiguous
    if not whole or source.size != target.size:
        raise BackendError(
            "a stream copies as many elements as it is to fill, in C order: not "
            f"{source.shape} with strides {source.strides} to "
            f"{target.shape} with strides {target.strides}"
        )


def _nothing() -> None:
    """What waiting for an event that has happened takes."""
