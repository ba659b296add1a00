"""What the GPU's normalisation does besides what every backend does."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from poseidon_caffe.backend.geometry import LrnGeometry
from poseidon_caffe.backend.reference.lrn import ReferenceLrn
from poseidon_caffe.errors import BackendError
from tests.backend.gpu.storage import BFLOAT, FLOAT, HALF, assert_near, rounded, there
from tests.devices import gpu_ops

GEOMETRIES = {
    # More channels than a thread walks over.
    "walked": LrnGeometry((2, 70, 2, 3), 5, 0.5, 0.75, 2.0, True),
    "three": LrnGeometry((2, 33, 2, 3), 3, 0.5, 0.6, 1.0, True),
    "seven": LrnGeometry((2, 9, 2, 3), 7, 0.5, 0.75, 1.0, True),
    "within": LrnGeometry((2, 3, 5, 4), 3, 0.5, 0.75, 1.0, False),
}


@pytest.mark.parametrize("storage", [FLOAT, HALF, BFLOAT], ids=["float", "half", "bf"])
@pytest.mark.parametrize(
    ("x_last", "y_last", "in_place"), list(itertools.product([False, True], repeat=3))
)
@pytest.mark.parametrize("name", GEOMETRIES)
def test_all_types_and_mixed_layouts(name, x_last, y_last, in_place, storage):
    g, rng = GEOMETRIES[name], np.random.default_rng(4)
    x, dy = (rounded(rng.standard_normal(g.x_shape), storage) for _ in range(2))
    want, slope = np.empty(g.x_shape), np.empty(g.x_shape)
    truth = ReferenceLrn(g)
    truth.forward(x, want)
    truth.backward(x, want, dy, slope)
    image = there(x, storage, channels_last=x_last)
    y = there(np.full(g.x_shape, np.nan), storage, channels_last=y_last)
    kernel = gpu_ops().lrn(g)
    kernel.forward(image, y)
    assert_near(y, want, storage)
    top = there(dy, storage, channels_last=y_last)
    dx = top if in_place else there(np.zeros(g.x_shape), storage, channels_last=x_last)
    kernel.backward(image, y, top, dx)
    assert_near(dx, slope, storage, 8)


def test_refusals():
    with pytest.raises(BackendError, match="odd local_size, not 4"):
        gpu_ops().lrn(LrnGeometry((1, 2, 3, 3), 4, 1.0, 0.75, 1.0, True))
    kernel = gpu_ops().lrn(LrnGeometry((1, 2, 3, 3), 3, 1.0, 0.75, 1.0, True))
    x = there(np.ones((1, 2, 3, 3)))
    with pytest.raises(BackendError, match="needs a forward"):
        kernel.backward(x, x, x, x)
