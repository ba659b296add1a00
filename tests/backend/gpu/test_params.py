"""Arrays in C order and in the type of parameters."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.gpu.params import param_dtype
from tests.backend.gpu.storage import BFLOAT, FLOAT, HALF, here, there
from tests.devices import gpu_ops


def test_parameters_have_32_bits_at_least():
    assert param_dtype(np.dtype(np.float64)) == np.float64
    for storage in (FLOAT, HALF, BFLOAT):
        assert param_dtype(storage) == FLOAT


def test_what_fits_is_not_copied():
    array = there(np.ones((2, 3)))
    assert gpu_ops().plain(array, "test") is array
    assert gpu_ops().plain_params(array, HALF) is array


@pytest.mark.parametrize("storage", [FLOAT, HALF, BFLOAT])
def test_layouts_and_types_are_converted(storage):
    values = np.arange(48.0).reshape(2, 3, 4, 2)
    array = there(values, storage, channels_last=True)
    plain = gpu_ops().plain(array, "test")
    assert plain.dtype == array.dtype
    assert plain.flags.c_contiguous
    assert np.array_equal(here(plain), values)
    params = gpu_ops().plain_params(array, storage)
    assert params.dtype == FLOAT
    assert np.array_equal(here(params), values)


def test_names_tell_copies_apart():
    one, other = (there(np.full((2, 3), v)).T for v in (1, 2))
    first, second = gpu_ops().plain(one, "one"), gpu_ops().plain(other, "other")
    assert here(first).tolist() == [[1, 1]] * 3
    assert here(second).tolist() == [[2, 2]] * 3
