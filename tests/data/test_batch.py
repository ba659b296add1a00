from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.data.batch import Batch


@pytest.mark.parametrize("channels_last", [False, True])
def test_memory_is_used_again(channels_last):
    batch = Batch(2, channels_last=channels_last)
    batch.shape_data((3, 4, 5))
    first = batch.data
    assert first.shape == (2, 3, 4, 5)
    assert first.dtype == batch.label.dtype == np.float32
    assert first.transpose(0, 2, 3, 1).flags.c_contiguous == channels_last
    batch.shape_data((3, 4, 5))
    assert batch.data is first
    batch.shape_data((3, 2, 2))
    assert np.shares_memory(batch.data, first)
    batch.shape_data((3, 9, 9))
    assert batch.data.shape == (2, 3, 9, 9)
    assert batch.label.shape == (2,)
