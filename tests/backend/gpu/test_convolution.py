"""What the GPU's convolutions do besides what every backend does."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from poseidon_caffe.backend.geometry import ConvGeometry
from poseidon_caffe.backend.gpu.convolution import GpuConv
from poseidon_caffe.errors import BackendError
from tests.backend.gpu.storage import (
    BFLOAT,
    FLOAT,
    HALF,
    assert_near,
    here,
    rounded,
    there,
)
from tests.backend.reference.test_conv import naive_backward, naive_forward
from tests.devices import gpu_ops

ONE, NONE = (1, 1), (0, 0)
LAYOUTS = [
    pytest.param(x, y, id=f"{'nhwc' if x else 'nchw'}-{'nhwc' if y else 'nchw'}")
    for x, y in itertools.product([False, True], repeat=2)
]


def check(kernel, storage, x_last=False, y_last=False, accumulate=False, steps=8):
    """All three products of a kernel against their definition."""
    g, rng = kernel.geometry, np.random.default_rng(3)
    x, w, dy = (
        rounded(rng.standard_normal(s), storage)
        for s in (g.x_shape, g.w_shape, g.y_shape)
    )
    b = rng.standard_normal(g.num_output).astype(np.float32)
    want_dx, want_dw, want_db = naive_backward(g, x, w, dy)
    image, top = (
        there(x, storage, channels_last=x_last),
        there(dy, storage, channels_last=y_last),
    )
    y = there(np.full(g.y_shape, np.nan), storage, channels_last=y_last)
    kernel.forward(image, there(w), there(b), y)
    assert_near(y, naive_forward(g, x, w, b), storage, steps)
    dx = there(np.full(g.x_shape, np.nan), storage, channels_last=x_last)
    kernel.backward_data(top, there(w), dx)
    assert_near(dx, want_dx, storage, steps)
    old = 1.0 if accumulate else np.nan
    dw, db = there(np.full(g.w_shape, old)), there(np.full(g.num_output, old))
    kernel.backward_weights(image, top, dw, db, accumulate=accumulate)
    # Gradients of parameters are sums in float32 of what is stored, whatever that is.
    assert_near(dw, want_dw + accumulate, FLOAT, 20)
    assert_near(db, want_db + accumulate, FLOAT, 20)


@pytest.mark.parametrize(("x_last", "y_last"), LAYOUTS)
@pytest.mark.parametrize(
    ("group", "kernel", "pad"), [(1, (3, 2), ONE), (2, (2, 2), NONE), (2, ONE, NONE)]
)
def test_chunks_and_mixed_layouts(x_last, y_last, group, kernel, pad):
    g = ConvGeometry((5, 4, 4, 5), 6, kernel, ONE, pad, ONE, group)
    for column_bytes in (1, 2 * 4 * int(np.prod((4, *kernel, *g.y_shape[2:])))):
        check(GpuConv(g, gpu_ops(), column_bytes), FLOAT, x_last, y_last, True)


@pytest.mark.parametrize("storage", [HALF, BFLOAT], ids=["half", "bfloat"])
@pytest.mark.parametrize(("x_last", "y_last"), LAYOUTS)
def test_activations_of_16_bits(storage, x_last, y_last):
    plain = ConvGeometry((2, 4, 5, 4), 3, (3, 3), ONE, ONE, ONE)
    check(gpu_ops().convolution(plain), storage, x_last, y_last, True)


@pytest.mark.parametrize("last", [False, True])
def test_four_spatial_axes(last):
    shape = (2, 2, 2, 3, 2, 3)
    g = ConvGeometry(shape, 3, (2, 2, 1, 2), (1,) * 4, (0, 1, 0, 0), (1,) * 4)
    check(GpuConv(g, gpu_ops()), FLOAT, last, last)


def test_more_axes_are_refused():
    ones = (1,) * 7
    g = ConvGeometry((1, 1, *ones), 1, (2, *ones[1:]), ones, (1, *[0] * 6), ones)
    x = there(np.ones(g.x_shape))
    with pytest.raises(BackendError, match="7 spatial axes"):
        GpuConv(g, gpu_ops()).forward(
            x, there(np.ones(g.w_shape)), None, there(np.ones(g.y_shape))
        )


def test_arrays_with_gaps_between_rows():
    """Neither rows nor channels are neighbours: they go through a copy."""
    g = ConvGeometry((2, 2, 4, 4), 3, (3, 3), ONE, ONE, ONE)
    rng = np.random.default_rng(2)
    x, w, dy = (rng.standard_normal(s) for s in (g.x_shape, g.w_shape, g.y_shape))
    b = rng.standard_normal(3)
    wide_x, wide_y = np.full((2, 2, 4, 6), 7.0), np.full((2, 3, 4, 7), 7.0)
    wide_x[..., :4], wide_y[..., :4] = x, dy
    wide = there(wide_x)
    top = there(np.full(wide_y.shape, 7.0))
    kernel = gpu_ops().convolution(g)
    kernel.forward(wide[..., :4], there(w), there(b), top[..., :4])
    assert_near(top[..., :4], naive_forward(g, x, w, b), FLOAT)
    assert (here(top)[..., 4:] == 7).all()
    want_dx, want_dw, want_db = naive_backward(g, x, w, dy)
    top = there(wide_y)
    dw, db = there(np.zeros(g.w_shape)), there(np.zeros(3))
    kernel.backward_weights(wide[..., :4], top[..., :4], dw, db, accumulate=False)
    assert_near(dw, want_dw, FLOAT, 20)
    assert_near(db, want_db, FLOAT, 20)
    kernel.backward_data(top[..., :4], there(w), wide[..., :4])
    assert_near(wide[..., :4], want_dx, FLOAT)
    assert (here(wide)[..., 4:] == 7).all()
