"""Names of storage types, addresses, and operands of products."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.gpu.device import BFLOAT16, pointer, storage_of
from tests.backend.gpu.storage import there


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        (np.float32, "float"),
        (np.dtype(np.float64), "double"),
        (np.float16, "half16"),
        (BFLOAT16, "bfloat16"),
    ],
)
def test_storage_types(dtype, name):
    assert storage_of(dtype) == name


def test_other_types_store_no_activations():
    with pytest.raises(KeyError):
        storage_of(np.dtype(np.int64))


def test_the_address_is_that_of_the_first_element():
    array = there(np.zeros((3, 4)))
    assert pointer(array[1:]) - pointer(array) == 16
    assert pointer(array.T) == pointer(array)
