"""Page-locked memory of the host, which a GPU copies from and to by itself."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from poseidon_caffe.backend.gpu.reasons import MEMORY_ALLOCATION, format_bytes
from poseidon_caffe.types import Array

__all__ = ["pinned_array"]


def pinned_array(claim: Callable[[], Any], count: int, dtype: np.dtype | type) -> Array:
    """A 1-D NumPy array of zeros in page-locked memory.

    It is given back when no view of it is held any more, by any thread.  CuPy's pool
    would take up to twice as much (powers of two), keep it for good, and hand it on
    while copies are still under way.

    Args:
        claim: makes the GPU the thread's own and returns CuPy's runtime; it is kept
            as long as the memory is.
        count: elements.
        dtype: of the elements.

    Raises:
        MemoryError: the host has no such room.
    """
    dtype = np.dtype(dtype)
    size = max(count, 1) * dtype.itemsize
    address = _allocate(claim(), size)
    block = (ctypes.c_byte * size).from_address(address)
    # What is left at the end goes with the process.
    weakref.finalize(block, _free, claim, address).atexit = False
    array = np.frombuffer(memoryview(block), dtype, count)
    array[...] = 0
    return array


def _allocate(runtime: Any, size: int) -> int:
    try:
        # To all GPUs alike, as CuPy's own.
        return int(runtime.hostAlloc(size, runtime.hostAllocPortable))
    except runtime.CUDARuntimeError as error:
        if int(error.status) != MEMORY_ALLOCATION:
            raise
        raise MemoryError(
            f"no {format_bytes(size)} of page-locked memory on the host: `free` shows "
            "how much memory there is, and containers may have less"
        ) from error


def _free(claim: Callable[[], Any], address: int) -> None:
    # By any thread, of which CUDA would else take memory on GPU 0.  The driver lets
    # copies end first.  After a failure of the GPU this fails too, and that has been
    # told.
    with suppress(Exception):
        claim().freeHost(address)
