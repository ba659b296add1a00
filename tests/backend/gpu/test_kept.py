"""Numbers that a forward keeps for its backward."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.gpu.image_planes import ImagePlanes
from poseidon_caffe.backend.gpu.kept import Kept
from poseidon_caffe.errors import BackendError
from tests.backend.gpu.storage import there
from tests.devices import gpu_ops


def test_the_same_memory_for_every_forward():
    kept = Kept(gpu_ops(), 6, np.int32)
    first = kept.plain()
    assert (first.shape, first.dtype) == ((6,), np.int32)
    assert kept.plain() is first
    assert kept.read("no forward") is first


def test_the_layout_is_that_of_the_last_forward():
    kept = Kept(gpu_ops(), 24, np.float32)
    top = ImagePlanes.of(there(np.zeros((1, 2, 3, 4)), channels_last=True))
    kept.written(top)
    assert kept.channels_last
    kept.plain()
    assert not kept.channels_last


def test_nothing_is_kept_before_a_forward():
    with pytest.raises(BackendError, match="backward of x needs a forward"):
        Kept(gpu_ops(), 6, np.int32).read("backward of x needs a forward")
