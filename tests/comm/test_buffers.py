"""Arrays as bytes."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.comm.buffers import LARGEST_BYTES, as_bytes
from poseidon_caffe.errors import ClusterError


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (2, 0, 3), (1, 1)])
@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", "i8", "bool", "u1"])
def test_any_array_is_its_own_memory(shape, dtype):
    array = np.zeros(shape, dtype)
    data = as_bytes(array, peer=0, tag=0, is_received=True)
    assert data.dtype == np.uint8
    assert data.shape == (array.nbytes,)
    if array.nbytes:
        assert np.shares_memory(data, array)


def test_what_cannot_travel_is_refused_in_words():
    array = np.zeros((4, 6), np.float32)
    with pytest.raises(
        ClusterError, match=r"\(6, 4\) to be sent to rank 3 \(tag 5\) is n"
    ):
        as_bytes(array.T, peer=3, tag=5, is_received=False)
    array.flags.writeable = False
    with pytest.raises(
        ClusterError, match=r"received from rank 3 \(tag 5\) is read-only"
    ):
        as_bytes(array, peer=3, tag=5, is_received=True)
    assert as_bytes(array, peer=3, tag=5, is_received=False).size == array.nbytes


def test_one_message_has_a_largest_size():
    # Never touched, so no memory is used.
    assert as_bytes(
        np.empty(LARGEST_BYTES, "u1"), peer=0, tag=0, is_received=False
    ).size
    with pytest.raises(ClusterError, match=r"2147483648 bytes .* at most 2147483647"):
        as_bytes(np.empty(LARGEST_BYTES + 1, "u1"), peer=0, tag=0, is_received=False)
