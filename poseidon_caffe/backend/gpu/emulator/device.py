"""EmulatedDevice: runs the GPU backend's kernels on the processor, for tests."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from poseidon_caffe.backend.gpu.device import (
    BFLOAT16,
    Argument,
    CopyCounter,
    Operand,
)
from poseidon_caffe.backend.gpu.emulator.array import DeviceArray, host_view
from poseidon_caffe.backend.gpu.emulator.compiler import (
    HostModule,
    bounds_checked,
    compile_host,
    forget_memory,
    watch_memory,
)
from poseidon_caffe.backend.gpu.emulator.stream import EmulatedStream, Schedule
from poseidon_caffe.backend.memory import NoRoomError, empty_array
from poseidon_caffe.errors import BackendError
from poseidon_caffe.types import Array

__all__ = ["EmulatedDevice"]

_KERNELS = Path(__file__).parents[1] / "kernels"
_ALIGN_BYTES = 256


class EmulatedGraph:
    """Recorded calls, done again by `launch`."""

    def __init__(self, stream: EmulatedStream, work: list[Callable[[], None]]) -> None:
        self._stream, self._work = stream, work

    def launch(self) -> None:
        """Do all of it again."""
        for call in self._work:
            self._stream.give(call)


class EmulatedDevice:
    """`Device` without a GPU: g++ compiles the same sources.

    While a graph is being captured kernels do nothing and copies are refused, as on
    a GPU, so that work left out of the graph shows.

    Args:
        index: which of the emulated GPUs.
        limit_bytes: how much memory it has.
        schedule: when streams do their work; without one, as soon as it is given.
    """

    def __init__(
        self,
        index: int = 0,
        limit_bytes: int = 1 << 33,
        schedule: Schedule | None = None,
    ) -> None:
        self.index = index
        self.name = "Emulated GPU"
        self.copies = CopyCounter()
        self._schedule = schedule
        self.compute = EmulatedStream(self.copies, schedule)
        self.launches = 0
        self._limit_bytes, self._used_bytes = limit_bytes, 0
        self._modules: dict[tuple[str, str], HostModule] = {}

    def do(self, work: Callable[[], None]) -> None:
        """Do a piece of device work, or record it in the graph being captured."""
        self.compute.give(work)

    def zeros(self, count: int, dtype: np.dtype | type) -> Any:
        """A 1-D array of zeros, aligned to 256 bytes.

        With a schedule it is cleared in turn, as a GPU does it: bytes are 0xff before.
        """
        dtype = np.dtype(dtype)
        size = count * dtype.itemsize
        free, total = self.memory_bytes()
        if size > free:
            raise NoRoomError(size, free, total)
        raw = np.zeros(size + _ALIGN_BYTES, np.uint8)
        self._used_bytes += size
        weakref.finalize(raw, self._release, size).atexit = False
        start = -raw.ctypes.data % _ALIGN_BYTES
        if size and bounds_checked():
            address = raw.ctypes.data + start
            watch_memory(address, size)
            weakref.finalize(raw, forget_memory, address).atexit = False
        array = DeviceArray(raw[start : start + size].view(dtype))
        if self._schedule is not None and size:
            raw.fill(0xFF)
            self.clear(array)
        return array

    def _release(self, size: int) -> None:
        self._used_bytes -= size

    def clear(self, array: Any) -> None:
        """Set every byte to zero."""
        memory = host_view(array)
        self.do(lambda: memory.fill(0))

    def pinned(self, count: int, dtype: np.dtype | type) -> Array:
        """A NumPy array of zeros."""
        array = empty_array(count, dtype)
        array[...] = 0
        return array

    def upload(self, source: Array, target: Any) -> None:
        """Copy any NumPy array to the device."""
        self.compute.upload(np.ascontiguousarray(source), target)
        self.compute.finish()

    def download(self, source: Any, target: Array) -> None:
        """Copy to a NumPy array."""
        self.compute.download(source, target)
        self.compute.finish()

    def launch(
        self,
        source: str,
        kernel: str,
        storage: str,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        arguments: Sequence[Argument],
    ) -> None:
        """Run a kernel of ``kernels/<source>.cu``."""
        module = self._modules.get((source, storage))
        if module is None:
            module = compile_host(_KERNELS / f"{source}.cu", storage)
            self._modules[source, storage] = module
        values = [_value(argument) for argument in arguments]
        # Held, as a graph is launched after its arrays' views are gone.
        held = list(arguments)

        def run() -> None:
            assert held is not None
            self.launches += 1
            module.launch(kernel, grid, block, values)

        self.do(run)

    def gemm(  # noqa: PLR0917 - BLAS's own order
        self,
        m: int,
        n: int,
        k: int,
        alpha: float,
        a: Operand,
        b: Operand,
        beta: float,
        c: Operand,
        batch: int = 1,
    ) -> None:
        """c = alpha a b + beta c, in NumPy."""
        self.do(lambda: _gemm(m, n, k, alpha, a, b, beta, c, batch))

    def stream(self) -> EmulatedStream:
        """A further stream."""
        return EmulatedStream(self.copies, self._schedule)

    def synchronise(self) -> None:
        """Do what is left to do."""
        self.compute.refuse_in_capture("and wait")
        self.compute.finish()

    def capture(self, work: Callable[[], None]) -> EmulatedGraph:
        """Record what ``work`` does, without doing it."""
        captured: list[Callable[[], None]] = []
        self.compute.captured = captured
        try:
            work()
        finally:
            self.compute.captured = None
        return EmulatedGraph(self.compute, captured)

    def memory_bytes(self) -> tuple[int, int]:
        """(free, total)."""
        return self._limit_bytes - self._used_bytes, self._limit_bytes


def _value(argument: Any) -> Any:
    """An argument as the kernel takes it."""
    if argument is None:
        return ctypes.c_void_p(0)
    if isinstance(argument, DeviceArray):
        return ctypes.c_void_p(argument.data.ptr)
    if isinstance(argument, float | np.floating):
        return ctypes.c_double(float(argument))
    if isinstance(argument, int | np.integer | np.bool_):
        return ctypes.c_longlong(int(argument))
    raise BackendError(
        f"a kernel takes device arrays and numbers, not a {type(argument).__name__}"
    )


def _matrices(operand: Operand, rows: int, columns: int, batch: int) -> Array:
    """The operand's memory as (batch, rows, columns)."""
    memory = host_view(operand.array)
    size = memory.itemsize
    across, down = (1, operand.stride) if operand.transposed else (operand.stride, 1)
    return np.lib.stride_tricks.as_strided(
        memory,
        (batch, rows, columns),
        (operand.step * size, across * size, down * size),
    )


def _number(array: Array) -> Array:
    """Values to compute with: at least float32."""
    if array.dtype == BFLOAT16:
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32) if array.dtype == np.float16 else array


def _gemm(  # noqa: PLR0917 - BLAS's own order
    m: int, n: int, k: int, alpha: float, a: Operand, b: Operand, beta: float,
    c: Operand, batch: int,
) -> None:  # fmt: skip
    if not m or not n:
        return
    out = _matrices(c, m, n, batch)
    result = np.zeros(out.shape, np.float64 if out.dtype.itemsize == 8 else np.float32)
    if k:
        left, right = _matrices(a, m, k, batch), _matrices(b, k, n, batch)
        with np.errstate(all="ignore"):
            result += np.matmul(_number(left), _number(right))
    result *= alpha
    if beta:
        result += beta * _number(out)
    if out.dtype == BFLOAT16:
        bits = result.astype(np.float32).view(np.uint32)
        out[...] = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    else:
        out[...] = result
