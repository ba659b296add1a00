"""Elementwise passes by packs of 16 bytes, and where packs do not fit."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.gpu.maps import PACK_BYTES, pack_count
from tests.backend.gpu.storage import BFLOAT, FLOAT, HALF, here, rounded, there
from tests.devices import gpu_ops

STORAGES = pytest.mark.parametrize(
    "storage", [FLOAT, HALF, BFLOAT], ids=["float", "half", "bf"]
)


@STORAGES
@pytest.mark.parametrize("count", [0, 1, 16, 17])
def test_packs_cover_the_array(storage, count):
    items = PACK_BYTES // storage.itemsize
    packs = pack_count(there(np.zeros(count), storage))
    assert packs * items >= count > (packs - 1) * items


@STORAGES
@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("count", [1, 8, 37])
def test_tails_and_odd_addresses(storage, first, count):
    """Every element of the part, and none beside it."""
    x = rounded(np.random.default_rng(0).standard_normal(count + first + 3), storage)
    source, target = there(x, storage), there(np.full(x.size, 9.0), storage)
    gpu_ops().map(
        "activation", "relu", [source[first : first + count]],
        target[first : first + count], 0.0,
    )  # fmt: skip
    want = np.full(x.size, 9.0)
    want[first : first + count] = np.maximum(x[first : first + count], 0)
    np.testing.assert_array_equal(here(target), want)


def test_layouts_may_differ():
    x, y = np.random.default_rng(1).standard_normal((2, 2, 5, 3, 4))
    out = there(np.zeros(x.shape))
    reads = [there(x, channels_last=True), there(y)]
    gpu_ops().map("activation", "relu_backward", reads, out, 0.5)
    want = np.where(x > 0, y, 0.5 * y).astype(np.float32)
    np.testing.assert_array_equal(here(out), want)
