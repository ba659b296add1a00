"""CupyDevice: a CUDA GPU through CuPy.

Nothing in this file runs without a GPU, so nothing else is in it.
"""

from __future__ import annotations

import gc
import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np

from poseidon_caffe.backend.gpu.cublas import (
    WORKSPACE_BYTES,
    Cublas,
    Matrix,
    load_cublas,
)
from poseidon_caffe.backend.gpu.device import (
    BFLOAT16,
    Argument,
    CopyCounter,
    Operand,
    pointer,
)
from poseidon_caffe.backend.gpu.pinned import pinned_array
from poseidon_caffe.backend.memory import NoRoomError
from poseidon_caffe.errors import BackendError
from poseidon_caffe.types import Array

__all__ = ["CupyDevice"]

_KERNELS = Path(__file__).parent / "kernels"

# cudaDataType, from library_types.h.
_CUDA_R = {"f4": 0, "f8": 1, "f2": 2}
_CUDA_R_16BF = 14
# cudaErrorNotReady, from driver_types.h.
_NOT_READY = 600


class CupyStream:
    """A CUDA stream; any thread may give it work."""

    def __init__(self, device: CupyDevice, raw: Any) -> None:
        self._device, self.raw = device, raw

    def record(self) -> CupyEvent:
        """The point after everything given so far."""
        # Made for this GPU, whichever is the thread's own.
        with self._device.on_this_thread():
            event = self._device.cupy.cuda.Event(disable_timing=True)
            event.record(self.raw)
            return CupyEvent(event, self._device)

    def wait_for(self, event: Any) -> None:
        """Let what follows begin after ``event``."""
        with self._device.on_this_thread():
            self.raw.wait_event(event.raw)

    def upload(self, source: Array, target: Array) -> None:
        """Copy from a pinned NumPy array; returns at once."""
        self._device.copies.to_device += 1
        self._device.copies.to_device_bytes += source.nbytes
        runtime = self._device.cupy.cuda.runtime
        with self._device.on_this_thread():
            runtime.memcpyAsync(
                pointer(target), source.ctypes.data, source.nbytes,
                runtime.memcpyHostToDevice, self.raw.ptr,
            )  # fmt: skip

    def download(self, source: Array, target: Array) -> None:
        """Copy to a pinned NumPy array; returns at once."""
        self._device.copies.to_host += 1
        self._device.copies.to_host_bytes += target.nbytes
        runtime = self._device.claim()
        runtime.memcpyAsync(
            target.ctypes.data, pointer(source), target.nbytes,
            runtime.memcpyDeviceToHost, self.raw.ptr,
        )  # fmt: skip

    def copy(self, source: Array, target: Array) -> None:
        """Copy within the device."""
        runtime = self._device.claim()
        runtime.memcpyAsync(
            pointer(target), pointer(source), source.nbytes,
            runtime.memcpyDeviceToDevice, self.raw.ptr,
        )  # fmt: skip


class CupyEvent:
    """A CUDA event, recorded; any thread may wait for it."""

    def __init__(self, raw: Any, device: CupyDevice) -> None:
        self.raw, self._device = raw, device

    def done(self) -> bool:
        """Whether everything before it has been done."""
        runtime = self._device.claim()
        status = int(runtime.eventQuery(self.raw.ptr))
        # CuPy's own answer takes a failure of the GPU for work that goes on.
        if status not in {0, _NOT_READY}:
            runtime.check_status(status)
        return status == 0

    def wait(self) -> None:
        """Return once everything before it has been done."""
        with self._device.on_this_thread():
            self.raw.synchronize()


class CupyGraph:
    """A CUDA graph."""

    def __init__(self, device: CupyDevice, raw: Any) -> None:
        self._device, self._raw = device, raw

    def launch(self) -> None:
        """Do all of it again."""
        self._device.claim()
        self._raw.launch(self._device.compute.raw)


class CupyDevice:
    """`Device` of CUDA.

    Args:
        index: number of the GPU.
        tf32: let float32 products use tensor cores (10 bits of mantissa).

    Raises:
        BackendError: no such GPU, no driver, no CuPy (see `inventory`).
    """

    def __init__(self, index: int = 0, *, tf32: bool = False) -> None:
        import cupy

        self.cupy: Any = cupy
        self.index = index
        self._capturing = False
        self.claim()
        properties = cupy.cuda.runtime.getDeviceProperties(index)
        self.name: str = properties["name"].decode()
        self.compute_capability = (properties["major"], properties["minor"])
        self.compute = CupyStream(self, cupy.cuda.Stream(non_blocking=True))
        self.copies = CopyCounter()
        self.launches = 0
        self._modules: dict[tuple[str, str], Any] = {}
        self._functions: dict[tuple[str, str, str], Any] = {}
        self._workspace = self.zeros(WORKSPACE_BYTES, np.uint8)
        workspace = pointer(self._workspace)
        library = load_cublas(_cublas_names(cupy))
        self._cublas = Cublas(library, self.stream_ptr, workspace, tf32=tf32)

    def claim(self) -> Any:
        """Make this GPU the thread's own, as kernels need; CUDA's runtime."""
        runtime = self.cupy.cuda.runtime
        if runtime.getDevice() != self.index:
            runtime.setDevice(self.index)
        return runtime

    @property
    def stream_ptr(self) -> int:
        """Address of the compute stream."""
        return int(self.compute.raw.ptr)

    def measure(self, work: Callable[[], None]) -> float:
        """Milliseconds that the compute stream takes for ``work``."""
        self.claim()
        events = self.cupy.cuda.Event(), self.cupy.cuda.Event()
        events[0].record(self.compute.raw)
        work()
        events[1].record(self.compute.raw)
        events[1].synchronize()
        return float(self.cupy.cuda.get_elapsed_time(*events))

    def on_this_thread(self) -> Any:
        """A context in which this GPU is the thread's own, as it then stays.

        CuPy's own goes back to the GPU before: GPU 0 in a thread that has asked for
        none, where CUDA 12 then takes memory, or fails if that is another process's.
        """
        self.claim()
        return nullcontext()

    def zeros(self, count: int, dtype: np.dtype | type) -> Any:
        """A 1-D array of zeros, aligned to 256 bytes (CuPy's pools align to 512)."""
        cupy = self.cupy
        try:
            with self.on_this_thread(), self.compute.raw:
                return cupy.zeros(count, dtype)
        except cupy.cuda.memory.OutOfMemoryError as error:
            wanted = count * np.dtype(dtype).itemsize
            raise NoRoomError(wanted, *self.memory_bytes()) from error

    def clear(self, array: Any) -> None:
        """Set every byte to zero, in turn."""
        runtime = self.claim()
        runtime.memsetAsync(pointer(array), 0, array.nbytes, self.compute.raw.ptr)

    def pinned(self, count: int, dtype: np.dtype | type) -> Array:
        """A NumPy array of zeros in page-locked memory.

        Raises:
            MemoryError: the host has no such room.
        """
        return pinned_array(self.claim, count, dtype)

    def upload(self, source: Array, target: Any) -> None:
        """Copy any NumPy array to the device, in turn; ``source`` is free at once."""
        self._refuse_in_capture()
        source = np.ascontiguousarray(source)
        self.compute.upload(source, target)
        # Pageable memory: the driver may still read it when the call returns.
        self.compute.raw.synchronize()

    def download(self, source: Any, target: Array) -> None:
        """Copy to any NumPy array once the work before is done."""
        self._refuse_in_capture()
        self.compute.download(source, target)
        self.compute.raw.synchronize()

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
        self.claim()
        function = self._functions.get((source, storage, kernel))
        if function is None:
            function = self._module(source, storage).get_function(kernel)
            self._functions[source, storage, kernel] = function
        self.launches += 1
        function(grid, block, tuple(map(_value, arguments)), stream=self.compute.raw)

    def _module(self, source: str, storage: str) -> Any:
        module = self._modules.get((source, storage))
        if module is None:
            text = (_KERNELS / f"{source}.cu").read_text(encoding="utf-8")
            common = (_KERNELS / "common.cuh").read_text(encoding="utf-8")
            # One text: CuPy's cache on disk is keyed by it.
            text = text.replace('#include "common.cuh"', common)
            module = self.cupy.RawModule(
                code=text,
                backend="nvrtc",
                options=("--std=c++17", f"-DSTORAGE={storage}"),
            )
            self._modules[source, storage] = module
        return module

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
        """c = alpha a b + beta c, by cuBLAS."""
        if not m or not n or not batch:
            return
        self.claim()
        # Row-major c = a b is column-major c' = b' a'.
        self._cublas.gemm(
            n, m, k, alpha, _matrix(b), _matrix(a), beta, _matrix(c), batch
        )

    def stream(self) -> CupyStream:
        """A further stream."""
        with self.on_this_thread():
            return CupyStream(self, self.cupy.cuda.Stream(non_blocking=True))

    def synchronise(self) -> None:
        """Return once all work given so far is done."""
        self._refuse_in_capture()
        self.claim()
        self.compute.raw.synchronize()

    def _refuse_in_capture(self) -> None:
        """Raise what the emulator raises, before CUDA gives up the recording."""
        if self._capturing:
            raise BackendError("a copy or a wait while a graph is captured")

    def capture(self, work: Callable[[], None]) -> CupyGraph:
        """Record what ``work`` gives to the compute stream, without doing it.

        Other threads may go on with their streams meanwhile.

        Raises:
            BackendError: CUDA cannot record some of it.
        """
        self.claim()
        stream = self.compute.raw
        # CuPy's default mode (relaxed) forbids other threads nothing.
        stream.begin_capture()
        self._capturing = True
        try:
            with _uncollected():
                work()
        except BaseException as error:
            with suppress(Exception):  # what went wrong first says more
                stream.end_capture()
            if type(error).__module__.startswith("cupy"):
                raise BackendError(f"CUDA records no such work: {error}") from error
            raise
        finally:
            self._capturing = False
        try:
            return CupyGraph(self, stream.end_capture())
        except Exception as error:
            raise BackendError(f"CUDA has recorded nothing: {error}") from error

    def memory_bytes(self) -> tuple[int, int]:
        """(free, total) of the device; what CuPy's pool holds unused is free."""
        cupy = self.cupy
        with self.on_this_thread():
            free, total = cupy.cuda.runtime.memGetInfo()
            return free + cupy.get_default_memory_pool().free_bytes(), total


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep Python's collector away: old handles wait for the GPU as they are destroyed.

    CUDA would give up the recording.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _cublas_names(cupy: Any) -> list[str]:
    """What the library that CuPy has found is called."""
    # Asking for the wrapper (importing it would not do) loads the library, wherever
    # it is; the loader then knows it by its name.  Where CuPy finds none, the loader
    # may, and else says so.
    with suppress(ImportError):
        _ = importlib.import_module("cupy_backends.cuda.libs").cublas
    major = cupy.cuda.runtime.runtimeGetVersion() // 1000
    return [f"libcublas.so.{n}" for n in dict.fromkeys((major, 13, 12))]


def _matrix(operand: Operand) -> Matrix:
    array = operand.array
    return Matrix(
        pointer(array), _cuda_type(array), operand.stride, operand.step,
        operand.transposed,
    )  # fmt: skip


def _cuda_type(array: Any) -> int:
    return _CUDA_R_16BF if array.dtype == BFLOAT16 else _CUDA_R[array.dtype.str[1:]]


def _value(argument: Any) -> Any:
    """An argument as CuPy's RawKernel takes it: 8 bytes each."""
    if argument is None:
        return np.uint64(0)
    if hasattr(argument, "data") and not isinstance(argument, np.generic):
        return np.uint64(argument.data.ptr)
    if isinstance(argument, float | np.floating):
        return np.float64(argument)
    if isinstance(argument, int | np.integer | np.bool_):
        return np.int64(argument)
    raise BackendError(
        f"a kernel takes device arrays and numbers, not a {type(argument).__name__}"
    )
