"""Arrays as (outer, classes, inner): seen as they are, or by way of a copy."""

from __future__ import annotations

import numpy as np
import pytest

from tests.backend.gpu.storage import here, there
from tests.devices import gpu_ops

X = np.arange(120.0).reshape(2, 3, 4, 5)


def test_c_order_is_seen_as_it_is():
    x, y = there(X), there(X)
    with gpu_ops().planes(1, [x], [y]) as planes:
        assert planes.reads[0] is x
        assert planes.writes[0] is y
        assert (planes.outer, planes.classes, planes.inner) == (2, 3, 20)
        assert planes.places == 40
    with gpu_ops().planes(2, [x], []) as planes:
        assert (planes.outer, planes.classes, planes.inner) == (6, 4, 5)


def test_channels_last_has_the_classes_last():
    x, y = there(X, channels_last=True), there(X, channels_last=True)
    with gpu_ops().planes(1, [x], [y]) as planes:
        assert planes.reads[0] is x
        assert (planes.outer, planes.classes, planes.inner) == (40, 3, 1)


@pytest.mark.parametrize("axis", [1, 3])
def test_mixed_layouts_go_through_copies(axis):
    x, y = there(X, channels_last=True), there(np.zeros(X.shape), channels_last=True)
    plain = there(X)
    with gpu_ops().planes(axis, [x, plain], [y]) as planes:
        assert planes.reads[1] is plain
        assert np.array_equal(here(planes.reads[0]), X)
        gpu_ops().copy(plain, planes.writes[0])
    assert np.array_equal(here(y), X)


def test_in_place_it_stays_one_array():
    x = there(X, channels_last=True)
    with gpu_ops().planes(2, [x], [x]) as planes:
        assert planes.reads[0] is planes.writes[0]
        assert np.array_equal(here(planes.writes[0]), X)


def test_a_scalar_is_one_class():
    x = there(np.array(3.0))
    with gpu_ops().planes(0, [x], []) as planes:
        assert (planes.outer, planes.classes, planes.inner) == (1, 1, 1)
