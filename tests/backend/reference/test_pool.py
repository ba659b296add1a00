from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.geometry import PoolGeometry
from poseidon_caffe.backend.reference import ReferenceOps
from poseidon_caffe.errors import BackendError
from tests.backend.conftest import caffe_close

# x_shape, output (H, W), kernel, stride, pad
CASES = {
    "2x2": ((2, 3, 6, 8), (3, 4), (2, 2), (2, 2), (0, 0)),
    "overlap_ceil": ((2, 16, 8, 9), (4, 4), (3, 3), (2, 2), (0, 0)),
    "floor": ((2, 16, 8, 9), (3, 4), (3, 3), (2, 2), (0, 0)),
    "pad": ((2, 3, 7, 8), (4, 5), (3, 3), (2, 2), (1, 1)),
    "same_size": ((2, 16, 7, 8), (7, 8), (3, 3), (1, 1), (1, 1)),
    "rect": ((2, 3, 7, 8), (4, 8), (3, 2), (2, 1), (1, 1)),
    "global": ((2, 16, 7, 6), (1, 1), (7, 6), (1, 1), (0, 0)),
    "big_kernel": ((1, 2, 9, 9), (2, 3), (8, 7), (1, 1), (0, 0)),
    "gaps": ((1, 2, 7, 8), (3, 3), (2, 1), (3, 3), (0, 0)),
    "no_images": ((0, 3, 6, 8), (3, 4), (2, 2), (2, 2), (0, 0)),
}


def geometry_of(name, method):
    x_shape, out, *rest = CASES[name]
    return PoolGeometry(x_shape, (*x_shape[:2], *out), *rest, method)


def windows(g):
    """(output place, rows, columns, Caffe's AVE divisor) of each window."""
    for oh, ow in np.ndindex(*g.y_shape[2:]):
        spans, divisor = [], 1
        for o, axis in ((oh, 0), (ow, 1)):
            size, pad = g.x_shape[2 + axis], g.pad[axis]
            start = o * g.stride[axis] - pad
            end = min(start + g.kernel[axis], size + pad)
            divisor *= end - start
            spans.append(slice(max(start, 0), max(min(end, size), 0)))
        yield (oh, ow), spans[0], spans[1], divisor


def naive_max(g, x):
    y, mask = np.empty(g.y_shape), np.empty(g.y_shape, int)
    for (oh, ow), rows, cols, _ in windows(g):
        for n, c in np.ndindex(*g.x_shape[:2]):
            best, index = -float(np.finfo(np.float32).max), -1
            for h in range(*rows.indices(g.x_shape[2])):
                for w in range(*cols.indices(g.x_shape[3])):
                    if x[n, c, h, w] > best:
                        best, index = x[n, c, h, w], h * g.x_shape[3] + w
            y[n, c, oh, ow], mask[n, c, oh, ow] = best, index
    return y, mask


def naive_average(g, x):
    y = np.empty(g.y_shape)
    for (oh, ow), rows, cols, divisor in windows(g):
        y[:, :, oh, ow] = x[:, :, rows, cols].sum(axis=(2, 3)) / divisor
    return y


def naive_max_gradient(g, mask, dy):
    dx = np.zeros((*g.x_shape[:2], g.x_shape[2] * g.x_shape[3]))
    for place in np.ndindex(*g.y_shape):
        if mask[place] >= 0:
            dx[(*place[:2], mask[place])] += dy[place]
    return dx.reshape(g.x_shape)


@pytest.mark.parametrize("with_mask", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_max(kit, rng, name, with_mask):
    g = geometry_of(name, "max")
    # Whole numbers: many ties, so that who wins is put to the test.
    x = rng.integers(-9, -2, g.x_shape).astype(float)
    dy = rng.standard_normal(g.y_shape)
    want, want_mask = naive_max(g, x)
    y, dx = kit.empty(g.y_shape), kit.empty(g.x_shape)
    mask = kit.empty(g.y_shape) if with_mask else None
    kernel = kit.ops.pooling(g)
    kernel.forward(kit.array(x), y, mask)
    kernel.backward(kit.array(dy), dx, mask)
    kit.assert_close(y, want)
    kit.assert_close(dx, naive_max_gradient(g, want_mask, dy))
    if mask is not None:
        np.testing.assert_array_equal(mask, want_mask)


@pytest.mark.parametrize("name", CASES)
def test_average(kit, rng, name):
    if name == "gaps":
        pytest.skip("Caffe divides by zero or less there")
    g = geometry_of(name, "ave")
    x, dy = rng.standard_normal(g.x_shape), rng.standard_normal(g.y_shape)
    y, dx = kit.empty(g.y_shape), kit.empty(g.x_shape)
    kernel = kit.ops.pooling(g)
    kernel.forward(kit.array(x), y)
    kernel.backward(kit.array(dy), dx)
    kit.assert_close(y, naive_average(g, x))
    want = np.zeros(g.x_shape)
    for (oh, ow), rows, cols, divisor in windows(g):
        want[:, :, rows, cols] += dy[:, :, oh : oh + 1, ow : ow + 1] / divisor
    kit.assert_close(dx, want)


def test_average_of_a_window_outside_is_zero(kit, rng):
    g = geometry_of("gaps", "ave")
    x = rng.standard_normal((1, 2, 7, 8))
    y, dx = kit.empty(g.y_shape), kit.empty(g.x_shape)
    # Rows 0, 3 and 6 (6 alone is half outside); columns 0, 3, 6.
    kernel = kit.ops.pooling(g)
    kernel.forward(kit.array(x), y)
    kernel.backward(kit.array(np.ones(g.y_shape)), dx)
    kit.assert_close(y[:, :, 2], x[:, :, 6, ::3])
    beyond = PoolGeometry((1, 1, 4, 4), (1, 1, 2, 2), (1, 1), (5, 5), (0, 0), "ave")
    y, dx = kit.empty(beyond.y_shape), kit.empty(beyond.x_shape)
    kernel = kit.ops.pooling(beyond)
    kernel.forward(kit.array(np.ones(beyond.x_shape)), y)
    kernel.backward(kit.array(np.ones(beyond.y_shape)), dx)
    assert y.tolist() == [[[[1, 0], [0, 0]]]]
    assert dx.sum() == 1


def test_max_of_a_window_outside_has_no_winner(kit):
    g = PoolGeometry((1, 1, 4, 4), (1, 1, 2, 2), (1, 1), (5, 5), (0, 0), "max")
    y, dx, mask = kit.empty(g.y_shape), kit.empty(g.x_shape), kit.empty(g.y_shape)
    kernel = kit.ops.pooling(g)
    kernel.forward(kit.array(np.ones(g.x_shape)), y, mask)
    kernel.backward(kit.array(np.ones(g.y_shape)), dx, mask)
    lowest = np.finfo(np.float32).min
    assert y.tolist() == [[[[1, lowest], [lowest, lowest]]]]
    assert mask.tolist() == [[[[0, -1], [-1, -1]]]]
    assert dx.sum() == dx[0, 0, 0, 0] == 1


def test_channel_slices(kit, rng):
    g = geometry_of("overlap_ceil", "max")
    x, dy = rng.standard_normal(g.x_shape), rng.standard_normal(g.y_shape)
    wide_x, wide_y = (
        kit.array(np.ones((2, 40, 8, 9))),
        kit.array(np.ones((2, 32, 4, 4))),
    )
    wide_x[:, 8:24] = x
    kernel = kit.ops.pooling(g)
    kernel.forward(wide_x[:, 8:24], wide_y[:, 16:])
    want, mask = naive_max(g, x)
    kit.assert_close(wide_y[:, 16:], want)
    wide_y[:, 16:] = dy
    kernel.backward(wide_y[:, 16:], wide_x[:, 8:24])
    kit.assert_close(wide_x[:, 8:24], naive_max_gradient(g, mask, dy))
    assert (wide_x[:, 24:] == 1).all()
    assert (wide_y[:, :16] == 1).all()


def test_nan_never_wins():
    """As in Caffe, whose comparison with NaN is false."""
    g = PoolGeometry((1, 1, 2, 4), (1, 1, 1, 2), (2, 2), (2, 2), (0, 0), "max")
    x = np.array([[[[np.nan, 1, np.nan, np.nan], [-np.inf, 3, np.nan, np.nan]]]])
    y, mask, dx = np.empty(g.y_shape), np.empty(g.y_shape), np.empty(g.x_shape)
    kernel = ReferenceOps().pooling(g)
    kernel.forward(x, y, mask)
    kernel.backward(np.ones(g.y_shape), dx, mask)
    assert y.ravel().tolist() == [3, np.finfo(np.float32).min]
    assert mask.ravel().tolist() == [5, -1]
    assert dx.ravel().tolist() == [0, 0, 0, 0, 0, 1, 0, 0]


def test_unknown_method_and_backward_alone_are_refused():
    with pytest.raises(BackendError, match="median"):
        ReferenceOps().pooling(geometry_of("2x2", "median"))
    kernel = ReferenceOps().pooling(g := geometry_of("2x2", "max"))
    with pytest.raises(BackendError, match="needs a forward"):
        kernel.backward(np.ones(g.y_shape), np.ones(g.x_shape))


GOLDEN = {
    "pool_ave": (2, 2, 0, "ave"),
    "pool_ave_ceil": (3, 2, 0, "ave"),
    "pool_ave_pad": (3, 2, 1, "ave"),
    "pool_max": (2, 2, 0, "max"),
    "pool_max_ceil": (3, 2, 0, "max"),
    "pool_max_floor": (3, 2, 0, "max"),
    "pool_max_mask": (3, 2, 0, "max"),
    "pool_max_overlap": (3, 1, 1, "max"),
    "pool_max_pad": (3, 2, 1, "max"),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_agrees_with_caffe(kit, golden, name):
    case = np.load(golden / "layers" / f"{name}.npz")
    kernel, stride, pad, method = GOLDEN[name]
    x, dy = case["in/x"], case["out_diff/y"]
    g = PoolGeometry(
        x.shape, dy.shape, (kernel,) * 2, (stride,) * 2, (pad,) * 2, method
    )
    mask = kit.empty(dy.shape) if "out/mask" in case else None
    y, dx = kit.empty(dy.shape), kit.empty(x.shape)
    pool = kit.ops.pooling(g)
    pool.forward(kit.array(x), y, mask)
    pool.backward(kit.array(dy), dx, mask)
    assert caffe_close(y, case["out/y"])
    assert caffe_close(dx, case["in_diff/x"])
    if mask is not None:
        np.testing.assert_array_equal(mask, case["out/mask"])
