"""Every kernel test runs on every backend, in every layout that it serves."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest

from poseidon_caffe.backend.memory import view_of
from poseidon_caffe.backend.protocols import Ops
from poseidon_caffe.backend.select import get_ops
from tests.backend.gpu.facade import HostFacade
from tests.devices import gpu_ops

KITS = [
    ("reference", np.float64, False),
    ("reference", np.float32, False),
    ("reference", np.float32, True),
    ("cpu", np.float32, False),
    ("cpu", np.float32, True),
    ("cpu", np.float64, False),
    ("gpu", np.float32, False),
    ("gpu", np.float32, True),
    ("gpu", np.float64, False),
]


@cache
def _backend(name: str) -> Ops:
    if name == "gpu":
        ops = gpu_ops()
        return HostFacade(ops, ops)  # type: ignore[return-value]
    return get_ops(name, threads=2)


@dataclass(frozen=True)
class Kit:
    """A backend with the dtype and layout that a test gives it."""

    ops: Ops
    dtype: type
    channels_last: bool

    def array(self, values) -> np.ndarray:
        """A copy of ``values`` in this dtype and layout."""
        values = np.asarray(values)
        out = self.empty(values.shape)
        out[...] = values
        return out

    def empty(self, shape) -> np.ndarray:
        """Full of NaN, so that an element left out (or read) shows."""
        raw = np.full(int(np.prod(shape)), np.nan, self.dtype)
        last = self.channels_last and len(shape) in {4, 5}
        return view_of(raw, tuple(shape), channels_last=last)

    def param(self, values) -> np.ndarray:
        """A parameter: always plain C order."""
        return np.array(values, self.dtype, order="C")

    def empty_param(self, shape) -> np.ndarray:
        return np.full(shape, np.nan, self.dtype)

    def assert_close(self, got, want, loose: float = 1.0) -> None:
        """Within rounding of the dtype, relative to the largest value."""
        got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
        assert got.shape == want.shape
        if want.size == 0:
            return
        tolerance = (2e-6 if self.dtype == np.float32 else 1e-13) * loose
        bound = tolerance * (4 * np.abs(want) + np.abs(want).max() + 1e-30)
        worst = np.abs(got - want) - bound
        assert np.isfinite(got).all(), "not every element was written"
        assert (worst <= 0).all(), (np.abs(got - want).max(), np.abs(want).max())


@pytest.fixture(
    params=KITS,
    ids=lambda k: f"{k[0]}-{k[1].__name__}-{'nhwc' if k[2] else 'nchw'}",
)
def kit(request) -> Kit:
    name, dtype, channels_last = request.param
    ops = _backend(name)
    if ops.name != name:
        pytest.skip(ops.note)
    return Kit(ops, dtype, channels_last)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def caffe_close(got, want) -> bool:
    """The tolerance of the golden recordings."""
    bound = 1e-4 * np.abs(want) + 2e-5 * np.abs(want).max(initial=0)
    return bool((np.abs(got - want) <= bound).all())


def summed(loss, *args, **options) -> tuple[float, float]:
    """(total, places counted) of one of the losses' ops."""
    sums = np.full(2, np.nan)
    loss(*args, sums, **options)
    return float(sums[0]), float(sums[1])


def weight(value: float) -> np.ndarray:
    """What the losses' backward ops take their weight as."""
    return np.array([value], np.float64)
