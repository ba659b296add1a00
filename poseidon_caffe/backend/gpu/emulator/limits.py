"""The sizes of grids and blocks that CUDA accepts on every GPU."""

from __future__ import annotations

from poseidon_caffe.errors import BackendError

__all__ = ["check_grid"]

_GRID = (2**31 - 1, 65535, 65535)
_BLOCK = (1024, 1024, 64)
_THREADS = 1024


def check_grid(
    kernel: str, grid: tuple[int, int, int], block: tuple[int, int, int]
) -> None:
    """Refuse a launch that a GPU would answer with "invalid configuration".

    Args:
        kernel: the kernel's name, for the message.
        grid: blocks along x, y and z.
        block: threads of a block along x, y and z.

    Raises:
        BackendError: a size that is not positive, or beyond CUDA's limits.
    """
    for what, sizes, limits in (("grid", grid, _GRID), ("block", block, _BLOCK)):
        fits = len(sizes) == len(limits) and all(
            1 <= size <= limit for size, limit in zip(sizes, limits, strict=True)
        )
        if not fits:
            raise BackendError(
                f"kernel {kernel}: {what} {tuple(sizes)} is not within 1 and {limits}"
            )
    threads = block[0] * block[1] * block[2]
    if threads > _THREADS:
        raise BackendError(
            f"kernel {kernel}: block {tuple(block)} has {threads} threads, "
            f"at most {_THREADS} are possible"
        )
