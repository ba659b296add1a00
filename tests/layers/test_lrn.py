"""LRN's refusals and its odd corner."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.errors import LayerError, ShapeError
from tests.layers.harness import build


def test_local_size_is_odd():
    with pytest.raises(LayerError, match="odd"):
        build("LRN", "lrn_param { local_size: 4 }", [(2, 3, 4, 5)])


def test_needs_images():
    with pytest.raises(ShapeError, match="4 axes"):
        build("LRN", "", [(2, 3)])


def test_within_a_channel_k_is_one():
    text = "lrn_param { norm_region: WITHIN_CHANNEL local_size: 1 k: 9 beta: 1 }"
    run = build("LRN", text, [(1, 1, 1, 1)])
    run.bottom[0].data[...] = 2
    np.testing.assert_allclose(run.forward()[0].item(), 2 / (1 + 4), rtol=1e-6)
