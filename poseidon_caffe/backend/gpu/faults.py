"""Checks of the numbers in data that the host does not wait for."""

from __future__ import annotations

from weakref import WeakValueDictionary, finalize

import numpy as np

from poseidon_caffe.backend.gpu.planes import GpuPlanes
from poseidon_caffe.backend.protocols import NumberError
from poseidon_caffe.types import Array

__all__ = ["GpuFaults", "GpuNumberCheck"]

_PAGE_COUNT = 64
_PLACE_BITS = 32


class GpuNumberCheck:
    """`NumberCheck` that notes the first fault in a record on the device."""

    def __init__(
        self,
        family: GpuFaults,
        record: Array,
        error: NumberError,
        ignored: int | None,
        *,
        negative_fractions: bool,
    ) -> None:
        self._family, self._record, self._error = family, record, error
        self._ignored = ignored
        self._negative_fractions = negative_fractions
        self._count = 0

    def run(self, values: Array, count: int, index: Array | None = None) -> None:
        """Note the first number out of range, if there is one."""
        self._count = count
        family = self._family
        numbers = family.plain_params(values, values.dtype)
        family.kernels("number_checks").each(
            "check_numbers", numbers.dtype, numbers.size,
            numbers, index, self._record, family.fault_count, numbers.size, count,
            self._ignored is not None, float(self._ignored or 0),
            self._negative_fractions,
        )  # fmt: skip

    def raise_note(self, note: int) -> None:
        """Raise the error that a record's note stands for."""
        position = (1 << _PLACE_BITS) - 1 - (note >> _PLACE_BITS)
        value = np.array([note & 0xFFFFFFFF], np.uint32).view(np.float32)[0]
        raise self._error(float(value), position, self._count)


class GpuFaults(GpuPlanes):
    """`FaultOps` on a GPU.  Records never move: graphs may hold their places.

    Attributes:
        fault_count: int64 (1,): how many faults kernels have met.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fault_count: Array = self.memory.zeros(1, np.int64)
        self._pages: list[Array] = []
        self._free: list[int] = []
        self._checks: WeakValueDictionary[int, GpuNumberCheck] = WeakValueDictionary()

    def number_check(
        self,
        error: NumberError,
        *,
        ignored: int | None = None,
        negative_fractions: bool = True,
    ) -> GpuNumberCheck:
        """A check for one layer."""
        if not self._free:
            start = len(self._pages) * _PAGE_COUNT
            self._pages.append(self.memory.zeros(_PAGE_COUNT, np.uint64))
            self._free = list(range(start + _PAGE_COUNT - 1, start - 1, -1))
        slot = self._free.pop()
        page, place = divmod(slot, _PAGE_COUNT)
        record = self._pages[page][place : place + 1]
        self.memory.clear(record)
        check = GpuNumberCheck(
            self, record, error, ignored, negative_fractions=negative_fractions
        )
        self._checks[slot] = check
        finalize(check, self._free.append, slot).atexit = False
        return check

    def raise_faults(self) -> None:
        """Raise the error of a fault that has been noted, and forget it."""
        self.memory.clear(self.fault_count)
        if not self._checks:
            return
        for number, page in enumerate(self._pages):
            notes = np.empty(_PAGE_COUNT, np.uint64)
            self.memory.download(page, notes)
            if not notes.any():
                continue
            self.memory.clear(page)
            for place in np.flatnonzero(notes):
                check = self._checks.get(number * _PAGE_COUNT + int(place))
                if check is not None:
                    check.raise_note(int(notes[place]))
