"""Stochastic pooling against its definition, on every backend."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.geometry import PoolGeometry
from poseidon_caffe.errors import BackendError
from tests.backend.reference.test_pool import geometry_of, windows
from tests.gradcheck import numeric_gradient


def test_stochastic_expectation(kit, rng):
    g = geometry_of("pad", "stochastic")
    x, dy = rng.random(g.x_shape) + 0.1, rng.standard_normal(g.y_shape)

    def forward(values):
        y = np.empty(g.y_shape)
        for (oh, ow), rows, cols, _ in windows(g):
            part = values[:, :, rows, cols]
            y[:, :, oh, ow] = (part**2).sum((2, 3)) / part.sum((2, 3))
        return y

    y, dx = kit.empty(g.y_shape), kit.empty(g.x_shape)
    kernel = kit.ops.pooling(g)
    kernel.forward(kit.array(x), y)
    kernel.backward(kit.array(dy), dx)
    kit.assert_close(y, forward(x))
    small = slice(0, 1), slice(0, 1)
    want = numeric_gradient(
        lambda part: float(
            (forward(np.broadcast_to(part, g.x_shape)) * dy)[small].sum()
        ),
        x[small],
    )
    np.testing.assert_allclose(dx[small], want, rtol=1e-4, atol=1e-5)


def test_stochastic_samples_by_value(kit, rng):
    g = PoolGeometry(
        (64, 16, 4, 4), (64, 16, 2, 2), (2, 2), (2, 2), (0, 0), "stochastic"
    )
    x = np.zeros(g.x_shape)
    x[..., ::2, ::2], x[..., 1::2, 1::2] = 1, 3
    y, dx = kit.empty(g.y_shape), kit.empty(g.x_shape)
    kernel = kit.ops.pooling(g)
    kernel.forward(kit.array(x), y, rng=rng)
    assert set(np.unique(y)) == {1, 3}
    assert 0.7 < (y == 3).mean() < 0.8
    kernel.backward(kit.array(y), dx)
    np.testing.assert_array_equal(dx[..., 1::2, 1::2], np.where(y == 3, 3, 0))
    np.testing.assert_array_equal(dx[..., ::2, ::2], np.where(y == 1, 1, 0))
    again = kit.empty(g.y_shape)
    kernel.forward(kit.array(x), again, rng=np.random.default_rng(7))
    kernel.forward(kit.array(x), y, rng=np.random.default_rng(7))
    np.testing.assert_array_equal(y, again)


def test_windows_of_zeros_and_windows_outside(kit):
    """A window without values gives 0, and its gradient to its first element."""
    g = PoolGeometry((1, 1, 3, 3), (1, 1, 2, 2), (1, 1), (3, 3), (0, 0), "stochastic")
    x, y, dx = (
        kit.array(np.zeros(g.x_shape)),
        kit.empty(g.y_shape),
        kit.empty(g.x_shape),
    )
    kernel = kit.ops.pooling(g)
    kernel.forward(x, y, rng=np.random.default_rng(1))
    kernel.backward(kit.array(np.ones(g.y_shape)), dx)
    assert (y == 0).all()
    assert dx[0, 0, 0, 0] == 1
    assert dx.sum() == 1


def test_overlapping_edges_follow_the_running_sum(kit, rng):
    g = PoolGeometry((3, 5, 7, 6), (3, 5, 3, 3), (3, 3), (2, 2), (0, 0), "stochastic")
    x = rng.random(g.x_shape)
    x[rng.random(g.x_shape) < 0.5] = 0
    y, dx = kit.empty(g.y_shape), kit.empty(g.x_shape)
    kernel = kit.ops.pooling(g)
    kernel.forward(kit.array(x), y, rng=np.random.default_rng(3))
    draws = np.random.default_rng(3).random((3, 3, 3, 5), dtype=np.float32)
    dy, want = rng.standard_normal(g.y_shape), np.zeros(g.x_shape)
    kernel.backward(kit.array(dy), dx)
    for (oh, ow), rows, cols, _ in windows(g):
        for n, c in np.ndindex(3, 5):
            part = x[n, c, rows, cols]
            sums = np.cumsum(part)
            threshold = (1 - draws[n, oh, ow, c]) * sums[-1]
            place = min(int((sums < threshold - 1e-9).sum()), sums.size - 1)
            i, j = divmod(place, part.shape[1])
            assert y[n, c, oh, ow] == kit.dtype(part[i, j])
            want[n, c, rows.start + i, cols.start + j] += dy[n, c, oh, ow]
    kit.assert_close(dx, want)


def test_masks_and_backward_alone_are_refused(kit):
    kernel = kit.ops.pooling(g := geometry_of("2x2", "stochastic"))
    x, y = kit.empty(g.x_shape), kit.empty(g.y_shape)
    with pytest.raises(BackendError, match="no mask"):
        kernel.forward(x, y, y)
    with pytest.raises(BackendError, match="needs a forward"):
        kernel.backward(y, x)


def test_a_window_of_more_than_a_byte_of_elements(kit):
    shape = (2, 3, 20, 21)
    g = PoolGeometry(shape, (2, 3, 1, 1), (20, 21), (1, 1), (0, 0), "stochastic")
    x, y = np.zeros(shape), kit.empty(g.y_shape)
    x[:, :, 18, 5] = 4
    dx = kit.empty(shape)
    kernel = kit.ops.pooling(g)
    kernel.forward(kit.array(x), y, rng=np.random.default_rng(1))
    kernel.backward(kit.array(np.ones(g.y_shape)), dx)
    assert (y == 4).all()
    np.testing.assert_array_equal(dx, x / 4)
