"""Checks of numbers in data: said at once on CPUs, when asked for on a GPU."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.select import get_ops
from poseidon_caffe.errors import LayerError
from tests.devices import gpu_ops

BACKENDS = {
    "reference": lambda: get_ops("reference", threads=1),
    "cpu": lambda: get_ops("cpu", threads=1),
    "gpu": gpu_ops,
}


class Case:
    def __init__(self, name: str) -> None:
        self.ops = BACKENDS[name]()

    def there(self, values, dtype):
        """A flat array of the backend's memory."""
        host = np.array(values, dtype).reshape(-1)
        array = self.ops.memory.zeros(host.size, dtype)
        self.ops.memory.upload(host, array)
        return array

    def run(self, values, count, dtype=np.float32, **options):
        """The index that the check makes, on the host."""
        seen = lambda *said: LayerError(f"{said[0]:g} at {said[1]} of {said[2]}")  # noqa: E731
        check = self.ops.number_check(seen, **options)
        index = self.there(np.full(np.size(values), -7), np.int64)
        check.run(self.there(values, dtype), count, index)
        self.ops.raise_faults()
        found = np.empty(np.size(values), np.int64)
        self.ops.memory.download(index, found)
        return found.tolist()


@pytest.fixture(params=list(BACKENDS))
def case(request) -> Case:
    return Case(request.param)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_whole_parts(case, dtype):
    assert case.run([0, 1.9, -0.9, 3], 4, dtype) == [0, 1, 0, 3]
    assert case.run([-0.0, 0.5], 1, dtype, negative_fractions=False) == [0, 0]
    assert case.run([], 0, dtype) == []


@pytest.mark.parametrize("bad", [-1, 4, np.nan, np.inf, -np.inf, 1e30])
def test_the_first_bad_number_is_named(case, bad):
    with pytest.raises(LayerError, match=rf"^{bad:g} at 2 of 4$".replace("+", r"\+")):
        case.run([0, 1, bad, -7, 9], 4)
    case.ops.raise_faults()


def test_no_negative_fractions(case):
    with pytest.raises(LayerError, match=r"^-0\.5 at 1 of 4$"):
        case.run([0, -0.5], 4, negative_fractions=False)


def test_an_ignored_number_is_allowed(case):
    assert case.run([0, 255.5, 3], 4, ignored=255)[::2] == [0, 3]
    with pytest.raises(LayerError, match=r"^254 at 1 of 4$"):
        case.run([255, 254], 4, ignored=255)
    with pytest.raises(LayerError, match=r"^nan at 0 of 4$"):
        case.run([np.nan], 4, ignored=0)


def test_many_blocks(case, rng):
    values = rng.integers(0, 9, 70_000)
    assert case.run(values, 9) == values.tolist()
    values[[66_000, 65_000, 69_000]] = 10, 11, 12
    with pytest.raises(LayerError, match=r"^11 at 65000 of 9$"):
        case.run(values, 9)
