"""Grids and blocks that CUDA refuses are refused."""

from __future__ import annotations

import pytest

from poseidon_caffe.backend.gpu.emulator.limits import check_grid
from poseidon_caffe.errors import BackendError


@pytest.mark.parametrize(
    ("grid", "block", "message"),
    [
        ((0, 1, 1), (32, 1, 1), r"grid \(0, 1, 1\)"),
        ((1, 1, -1), (32, 1, 1), r"grid \(1, 1, -1\)"),
        ((2**31, 1, 1), (32, 1, 1), "grid"),
        ((1, 65536, 1), (32, 1, 1), "grid"),
        ((1, 1, 65536), (32, 1, 1), "grid"),
        ((1, 1, 1), (0, 1, 1), "block"),
        ((1, 1, 1), (1025, 1, 1), "block"),
        ((1, 1, 1), (1, 1, 65), "block"),
        ((1, 1, 1), (32, 33, 1), "1056 threads, at most 1024"),
    ],
)
def test_what_cuda_refuses(
    grid: tuple[int, int, int], block: tuple[int, int, int], message: str
) -> None:
    with pytest.raises(BackendError, match=f"kernel scale: .*{message}"):
        check_grid("scale", grid, block)


def test_the_largest_are_accepted() -> None:
    check_grid("scale", (2**31 - 1, 65535, 65535), (1, 16, 64))
    check_grid("scale", (1, 1, 1), (1024, 1, 1))
