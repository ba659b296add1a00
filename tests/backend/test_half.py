from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.backend.half import (
    BFLOAT16,
    HALF,
    host_dtype,
    is_half,
    narrow,
    widen,
)
from tests.devices import gpu_ops

EDGES = [0.0, -0.0, 1.0, -1.5, 65504.0, 1e-7, 6e-8, 3e38, 1e-40, np.inf, -np.inf]


def through(values, dtype):
    """float32 numbers rounded to 16 bits, and back."""
    source = np.asarray(values, np.float32)
    stored, back = np.empty(source.size, dtype), np.empty(source.size, np.float32)
    narrow(source, stored)
    widen(stored, back)
    return back


@pytest.mark.parametrize("dtype", [BFLOAT16, HALF])
def test_every_pattern_comes_back(dtype):
    stored = np.arange(1 << 16, dtype=np.uint16).view(dtype)
    values, again = np.empty(stored.size, np.float32), np.empty_like(stored)
    widen(stored, values)
    narrow(values, again)
    good = ~np.isnan(values)
    np.testing.assert_array_equal(
        again.view(np.uint16)[good], stored.view(np.uint16)[good]
    )
    assert np.isnan(through(values[~good], dtype)).all()


def test_bfloat16_rounds_to_the_nearest_and_ties_to_even():
    step = 2.0**-7
    ties = [1 + step / 2, 1 + 3 * step / 2, 1 + step / 2 + 1e-6, -1 - 3 * step / 2]
    expected = [1, 1 + 2 * step, 1 + step, -1 - 2 * step]
    np.testing.assert_array_equal(through(ties, BFLOAT16), np.float32(expected))
    assert through([3.4e38], BFLOAT16)[0] == np.inf


@pytest.mark.parametrize("dtype", [BFLOAT16, HALF])
def test_edges(dtype):
    step = {BFLOAT16: 2.0**-8, HALF: 2.0**-11}[dtype]
    wide = np.float32(EDGES)
    got = through(EDGES, dtype)
    fits = np.isinf(wide) | (np.abs(wide) <= 65504) | (dtype == BFLOAT16)
    same = np.isinf(wide) & (got == wide)
    finite = np.where(same, 0, wide)
    near = np.abs(np.where(same, 0, got) - finite) <= np.abs(finite) * step + 3e-8
    assert (same | near)[fits].all()


def test_kinds():
    assert is_half(BFLOAT16)
    assert is_half(HALF)
    assert not is_half(np.dtype(np.float32))
    assert not is_half(np.dtype(np.uint8))
    assert host_dtype(HALF) == host_dtype(BFLOAT16) == np.float32
    assert host_dtype(np.dtype(np.uint8)) == np.uint8


@pytest.mark.parametrize("dtype", [BFLOAT16, HALF])
@pytest.mark.parametrize("channels_last", [False, True])
def test_a_blob_of_a_device_shows_float32(dtype, channels_last):
    memory = gpu_ops().memory
    blob = Blob((2, 3, 2, 2), dtype=dtype, channels_last=channels_last, memory=memory)
    values = np.arange(24, dtype=np.float32).reshape(blob.shape) / 8
    blob.mutable_cpu_data[...] = values
    assert blob.data.dtype == dtype
    assert blob.data.nbytes == 48
    assert blob.cpu_data.dtype == np.float32
    np.testing.assert_array_equal(blob.cpu_data, values)
    blob.mutable_cpu_data[0, 0] = 1.0 + 2.0**-20
    _ = blob.data
    values[0, 0] = 1
    np.testing.assert_array_equal(blob.cpu_data, values)
