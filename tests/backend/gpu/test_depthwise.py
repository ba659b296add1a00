"""Convolutions of one input channel a group, without columns."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.geometry import ConvGeometry
from poseidon_caffe.backend.gpu.convolution import GpuConv
from poseidon_caffe.backend.gpu.depthwise import DepthwiseConv
from tests.backend.gpu.storage import BFLOAT, FLOAT, HALF, assert_near, here, there
from tests.backend.gpu.test_convolution import LAYOUTS, check
from tests.backend.reference.test_conv import naive_forward
from tests.devices import gpu_ops

ONE, TWO, NONE = (1, 1), (2, 2), (0, 0)


@pytest.mark.parametrize(("x_last", "y_last"), LAYOUTS)
@pytest.mark.parametrize(
    "g",
    [
        ConvGeometry((2, 3, 6, 5), 6, (3, 2), TWO, ONE, ONE, 3),
        ConvGeometry((2, 2, 7, 6), 2, (3, 3), (3, 2), NONE, ONE, 2),
        ConvGeometry((1, 2, 9), 4, (3,), (2,), (1,), (2,), 2),
        ConvGeometry((2, 2, 3, 4, 3), 2, (2, 3, 1), (1, 2, 1), (1, 0, 0), (1,) * 3, 2),
        ConvGeometry((40, 33, 5, 5), 33, (1, 2), ONE, NONE, ONE, 33),
    ],
    ids=["two_each", "overhang", "1d", "3d", "many"],
)
def test_one_channel_a_group(g, x_last, y_last):
    kernel = gpu_ops().convolution(g)
    assert isinstance(kernel, DepthwiseConv)
    check(kernel, FLOAT, x_last, y_last, True)


@pytest.mark.parametrize("storage", [HALF, BFLOAT], ids=["half", "bfloat"])
@pytest.mark.parametrize(("x_last", "y_last"), LAYOUTS)
def test_activations_of_16_bits(storage, x_last, y_last):
    g = ConvGeometry((2, 4, 5, 4), 4, (3, 3), TWO, ONE, ONE, 4)
    check(DepthwiseConv(g, gpu_ops()), storage, x_last, y_last)


def test_depthwise_by_columns_and_directly_agree_with_a_fused_relu():
    g = ConvGeometry((2, 3, 5, 5), 6, (3, 3), ONE, ONE, ONE, 3, relu=0.1)
    rng = np.random.default_rng(1)
    x, w, b = (there(rng.standard_normal(s)) for s in (g.x_shape, g.w_shape, 6))
    want = naive_forward(g, *(here(a) for a in (x, w, b)))
    for kernel in (GpuConv(g, gpu_ops()), DepthwiseConv(g, gpu_ops())):
        y = there(np.zeros(g.y_shape))
        kernel.forward(x, w, b, y)
        assert_near(y, np.where(want > 0, want, 0.1 * want), FLOAT, 8)
