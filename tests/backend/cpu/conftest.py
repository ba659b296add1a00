"""The oneDNN backend itself, for what the tests of every backend do not reach."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.backend.reference import ReferenceOps
from poseidon_caffe.backend.select import get_ops


@cache
def _backend():
    return get_ops("cpu", threads=2)


@pytest.fixture
def ops():
    found = _backend()
    if found.name != "cpu":
        pytest.skip(found.note)
    found.dnnl.set_threads(2)
    return found


@pytest.fixture
def dnnl(ops):
    return ops.dnnl


@pytest.fixture
def slow():
    """Another implementation, in float64, tested on its own."""
    return ReferenceOps()


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def stored(values, *, channels_last=True):
    """A float32 copy as blobs store it, or in plain order."""
    values = np.asarray(values, np.float32)
    blob = Blob(values.shape, channels_last=channels_last)
    blob.data[...] = values
    return blob.data


def unset(shape, *, channels_last=True):
    """Memory full of NaN."""
    return stored(np.full(shape, np.nan), channels_last=channels_last)


def inside(values, before=3, after=5):
    """A copy of ``values`` as a channel slice of a wider array: it is not dense."""
    values = np.asarray(values, np.float32)
    channels = before + values.shape[1] + after
    wide = stored(np.full((len(values), channels, *values.shape[2:]), 9.0))
    part = wide[:, before : before + values.shape[1]]
    part[...] = values
    return part


def assert_near(got, want, times=1.0):
    """Within float32 rounding of sums, relative to the largest value."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    assert got.shape == want.shape
    assert np.isfinite(got).all(), "not every element was written"
    bound = times * 1e-5 * (np.abs(want) + np.abs(want).max(initial=1e-30))
    worst = np.abs(got - want) - bound
    assert (worst <= 0).all(), (np.abs(got - want).max(), np.abs(want).max())
