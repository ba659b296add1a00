"""PReLU's slopes."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.errors import ShapeError
from tests.layers.harness import build


def test_slopes_start_at_a_quarter():
    run = build("PReLU", "", [(2, 3, 4)])
    np.testing.assert_array_equal(run.layer.blobs[0].data, [0.25] * 3)
    run = build("PReLU", "prelu_param { channel_shared: true }", [(2, 3)])
    assert run.layer.blobs[0].shape == ()
    assert run.layer.blobs[0].data == 0.25


def test_no_copy_is_kept_where_backward_never_comes():
    run = build("PReLU", "", [(2, 3)], in_place=True)
    run.layer.will_backward = False
    run.bottom[0].data[...] = -4
    run.forward()
    assert run.layer.saved.data(run.bottom[0]) is run.bottom[0].data


def test_channels_must_stay():
    run = build("PReLU", "", [(2, 3)])
    run.bottom[0].reshape((2, 4))
    with pytest.raises(ShapeError, match="slopes"):
        run.reshape()
    with pytest.raises(ShapeError, match="2 axes"):
        build("PReLU", "", [(3,)])
