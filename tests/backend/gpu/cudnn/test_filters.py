from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.gpu.cudnn.filters import Filters, lies_alike
from poseidon_caffe.backend.gpu.cudnn.layout import address_of


def test_which_weights_lie_the_same_in_both_orders():
    assert lies_alike((8, 4, 1, 1))
    assert lies_alike((8, 1, 3, 3))
    assert not lies_alike((8, 4, 3, 3))


@pytest.mark.parametrize(
    ("shape", "dtype", "last", "direct"),
    [
        ((4, 3, 2, 2), "float32", False, True),
        ((4, 3, 2, 2), "float32", True, False),
        ((4, 3, 1, 1), "float32", True, True),
        ((4, 3, 1, 1), "float16", False, False),
    ],
)
def test_weights_are_used_in_place_where_they_lie_right(
    host_kit, handle, shape, dtype, last, direct
):
    values = np.arange(np.prod(shape)).reshape(shape) / 8.0
    w = host_kit.put(values, "float32", False)
    filters = Filters(handle.device, shape, np.dtype(dtype), channels_last=last)
    assert filters.is_direct(w) is direct
    assert (filters.values(w, 1) == address_of(w)) is direct


def test_a_copy_is_refreshed_when_the_version_changes(host_kit, handle, standin):
    shape = (2, 3, 2, 2)
    filters = Filters(handle.device, shape, np.dtype("float16"), channels_last=True)

    def packed(value, key):
        w = host_kit.put(np.full(shape, value), "float32", False)
        at = filters.values(w, key)
        return float(standin.memory(at, np.float16, (1,), (1,))[0])

    assert packed(1.0, 5) == 1.0
    assert packed(2.0, 5) == 1.0
    assert packed(2.0, 6) == 2.0
    assert packed(3.0, None) == 3.0
    assert packed(4.0, None) == 4.0
