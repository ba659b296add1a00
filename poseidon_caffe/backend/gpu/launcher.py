"""Starting kernels: how many threads, in which blocks, with which arguments."""

from __future__ import annotations

import numpy as np

from poseidon_caffe.backend.gpu.device import Argument, Device, storage_of

__all__ = [
    "ANY_STORAGE",
    "GRID_BLOCKS",
    "THREADS",
    "WARP",
    "Launcher",
    "row_threads",
]

THREADS = 256
"""Threads of a block, unless a kernel wants another number."""

WARP = 32
"""Threads that run in step."""

GRID_BLOCKS = 65_535
"""Blocks of a launch at most; kernels loop over what is more."""

ANY_STORAGE = np.dtype(np.float32)
"""What kernels that know no activations are compiled for."""


def row_threads(length: int) -> int:
    """Threads of a block that works on ``length`` things: no more than they need."""
    return max(WARP, min(THREADS, 1 << max(length - 1, 0).bit_length()))


class Launcher:
    """Starts kernels of one source file on a device.

    Args:
        device: where.
        source: name of the file in ``kernels/``, without ``.cu``.
    """

    def __init__(self, device: Device, source: str) -> None:
        self._device, self._source = device, source

    def each(
        self, kernel: str, dtype: np.dtype, count: int, *arguments: Argument
    ) -> None:
        """Run a kernel that does ``count`` things in a grid-stride loop.

        Args:
            kernel: name.
            dtype: of the activations, which the kernel is compiled for.
            count: of elements; nothing runs for 0.
            arguments: of the kernel.
        """
        if count > 0:
            blocks = min(-(-count // THREADS), GRID_BLOCKS)
            self.blocks(kernel, dtype, blocks, *arguments)

    def blocks(
        self,
        kernel: str,
        dtype: np.dtype,
        blocks: int,
        *arguments: Argument,
        threads: int = THREADS,
    ) -> None:
        """Run so many blocks of a kernel; nothing for 0."""
        if blocks > 0:
            self.grid(kernel, dtype, (blocks, 1, 1), (threads, 1, 1), *arguments)

    def grid(
        self,
        kernel: str,
        dtype: np.dtype,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        *arguments: Argument,
    ) -> None:
        """Run a grid of blocks of up to three axes."""
        storage = storage_of(dtype)
        self._device.launch(self._source, kernel, storage, grid, block, arguments)
