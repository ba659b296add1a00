"""Division by multiplication gives what a division gives, for every number."""

from __future__ import annotations

import ctypes
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from poseidon_caffe.backend.gpu.division import divider, order_numbers
from poseidon_caffe.backend.gpu.emulator.compiler import (
    HostModule,
    compile_host,
    forget_memory,
    watch_memory,
)

MOST = 2**31 - 1
POWERS = [2**k + off for k in range(1, 32) for off in (-1, 0, 1)]
ODD = [10, 11, 13, 14, 55, 224, 227, 641, 3025, 46341, 50176, 10**9, 1_431_655_765]
DIVISORS = sorted({n for n in (*POWERS, *ODD, MOST - 1, MOST // 2) if 1 <= n <= MOST})

SOURCE = r"""
#include "common.cuh"

KERNEL(quotients)(const int* numbers, int* found, long long by, long long by_code,
                  long long n) {
  const Divisor divisor = DIVISOR(by);
  FOR_EACH(i, n) found[i] = divide(numbers[i], divisor);
}

KERNEL(places)(const long long* indices, int* found, ORDER_PARAMETERS, long long n) {
  const Order order = ORDER;
  FOR_EACH(i, n) {
    int* mine = found + 3 * i;
    place_of(indices[i], order, mine[0], mine[1], mine[2]);
  }
}

KERNEL(elements)(const int* places, long long* found, STEPS_PARAMETERS(x),
                 long long n) {
  const PlaneSteps steps = STEPS(x);
  FOR_EACH(i, n) {
    const int* at = places + 3 * i;
    found[i] = element_at(steps, at[0], at[1], at[2]);
  }
}
"""


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> HostModule:
    if shutil.which("g++") is None:
        pytest.skip("the emulator needs g++")
    folder: Path = tmp_path_factory.mktemp("division")
    (folder / "trial.cu").write_text(SOURCE)
    return compile_host(folder / "trial.cu", "float", folder)


def _run(module: HostModule, kernel: str, *arguments: Any) -> None:
    arrays = [a for a in arguments if isinstance(a, np.ndarray)]
    found = [
        ctypes.c_void_p(a.ctypes.data)
        if isinstance(a, np.ndarray)
        else ctypes.c_longlong(a)
        for a in arguments
    ]
    for array in arrays:
        watch_memory(array.ctypes.data, array.nbytes)
    try:
        module.launch(kernel, (2, 1, 1), (32, 1, 1), found)
    finally:
        for array in arrays:
            forget_memory(array.ctypes.data)


def _around(divisor: int, quotients: int) -> np.ndarray:
    """Numbers where the quotient changes, spread over all up to the largest."""
    whole = np.unique(np.linspace(0, MOST // divisor, quotients).astype(np.int64))
    numbers = (whole[:, None] * divisor + np.array([-1, 0, 1])).ravel()
    return np.unique(np.clip([*numbers, 0, 1, MOST - 1, MOST], 0, MOST))


def _by_code(numbers: np.ndarray, divisor: int) -> np.ndarray:
    """As the kernels do it; the sum must not leave 32 bits."""
    shift, factor = divmod(divider(divisor), 2**32)
    assert 0 <= shift < 32
    # Exact in 64 bits: less than 2^31 by less than 2^32.
    found = (numbers * factor >> 32) + numbers
    assert found.max() < 2**32
    return found >> shift


@pytest.mark.parametrize(
    "divisors",
    [range(1, 2000), DIVISORS, np.random.default_rng(1).integers(1, MOST, 2000)],
    ids=["small", "near powers", "any"],
)
def test_the_quotient_is_right_up_to_the_largest_number(divisors: Any) -> None:
    for divisor in map(int, divisors):
        numbers = _around(divisor, 40)
        np.testing.assert_array_equal(_by_code(numbers, divisor), numbers // divisor)


def test_nothing_to_divide_is_divided_by_one() -> None:
    assert divider(0) == divider(1)


def test_kernels_divide_so(module: HostModule) -> None:
    for divisor in DIVISORS:
        numbers = _around(divisor, 5).astype(np.int32)
        found = np.full_like(numbers, -1)
        size = len(numbers)
        _run(module, "quotients", numbers, found, divisor, divider(divisor), size)
        np.testing.assert_array_equal(found, numbers // divisor)


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize(
    ("channels", "places"),
    [(3, 35), (64, 12_544), (1, 1), (7, 1), (1, 9), (40_000, 50_000), (1, MOST)],
)
def test_the_place_of_an_index(
    module: HostModule, channels: int, places: int, last: bool
) -> None:
    image = channels * places
    most = min(2**40, image * MOST)
    edges = np.array([0, 1, image - 1, image, places, channels, 2**31 - 1, 2**31, most])
    indices = np.unique(np.concatenate([edges, edges - 1, edges * 3 // 5]))
    indices = indices[(indices >= 0) & (indices < image * MOST)]
    found = np.full((len(indices), 3), -1, np.int32)
    numbers = order_numbers(channels, places, channels_last=last)
    _run(module, "places", indices, found, *numbers, len(indices))
    shape = (MOST, places, channels) if last else (MOST, channels, places)
    n, first, second = np.unravel_index(indices, shape)
    c, p = (second, first) if last else (first, second)
    np.testing.assert_array_equal(found, np.stack([n, c, p], 1))


def test_elements_lie_further_than_32_bits_count(module: HostModule) -> None:
    places = np.array([[0, 0, 0], [1, 2, 3], [9, MOST, 5], [70_000, 63, MOST]], "i4")
    for steps in ((2**33, 50_000, 1), (2**33, 1, 50_000), (MOST, MOST, 1)):
        found = np.full(len(places), -1, np.int64)
        _run(module, "elements", places, found, *steps, len(places))
        np.testing.assert_array_equal(found, places.astype(np.int64) @ np.array(steps))
