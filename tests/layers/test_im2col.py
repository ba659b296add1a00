"""Im2col's shapes, order and refusals."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.errors import LayerError
from tests.layers.harness import build


def im2col(text, shape=(2, 3, 5, 6), **more):
    run = build("Im2col", f"convolution_param {{ {text} }}", [shape], **more)
    rng = np.random.default_rng(5)
    run.bottom[0].data[...] = rng.standard_normal(shape)
    return run


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_convolution_is_weights_times_columns(channels_last):
    text = "kernel_size: 3 stride: 2 pad: 1"
    run = im2col(text, channels_last=channels_last)
    columns = run.forward()[0]
    conv = build("Convolution", f"convolution_param {{ {text} num_output: 4 "
                 'bias_term: false weight_filler { type: "xavier" } }',
                 [(2, 3, 5, 6)])  # fmt: skip
    conv.bottom[0].data[...] = run.bottom[0].data
    w = conv.params()[0].reshape(4, -1)
    expected = np.einsum("ok,nkhw->nohw", w, columns)
    np.testing.assert_allclose(conv.forward()[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "shape", "top"),
    [
        ("kernel_size: 3", (2, 3, 5, 6), (2, 27, 3, 4)),
        ("kernel_size: 2 dilation: 3", (2, 3, 5, 6), (2, 12, 2, 3)),
        ("kernel_h: 1 kernel_w: 4 pad_w: 1", (2, 3, 5, 6), (2, 12, 5, 5)),
        ("kernel_size: 2 axis: 2", (2, 3, 5, 6), (2, 3, 10, 5)),
        ("kernel_size: 2 kernel_size: 1 kernel_size: 3", (1, 2, 3, 4, 5),
         (1, 12, 2, 4, 3)),
    ],
)  # fmt: skip
def test_shapes(text, shape, top):
    assert im2col(text, shape).top[0].shape == top


def test_backward_counts_the_windows_of_an_element():
    run = im2col("kernel_size: 2", (1, 1, 3, 3))
    run.top[0].diff[...] = 1
    expected = [[1, 2, 1], [2, 4, 2], [1, 2, 1]]
    np.testing.assert_array_equal(run.backward()[0][0, 0], expected)


@pytest.mark.parametrize(
    ("text", "shape", "message"),
    [
        ("", (2, 3, 5, 6), "needs kernel_size"),
        ("kernel_size: 9", (2, 3, 5, 6), "exceeds"),
        ("kernel_size: 1 axis: 3", (2, 3, 5, 6), "after the channels"),
        ("kernel_size: 2 stride: 0", (2, 3, 5, 6), "positive"),
    ],
)
def test_bad_settings_are_refused(text, shape, message):
    with pytest.raises(LayerError, match=message):
        im2col(text, shape)


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_window_may_stick_out_by_less_than_a_stride(channels_last):
    """Without padding too its outer places are 0, however often it runs."""
    run = im2col("kernel_size: 4 stride: 2", (2, 3, 3, 3), channels_last=channels_last)
    run.top[0].data[...] = 7
    columns = run.forward()[0].reshape(2, 3, 4, 4)
    np.testing.assert_array_equal(columns[:, :, :3, :3], run.bottom[0].data)
    assert (columns[:, :, 3] == 0).all()
    assert (columns[:, :, :, 3] == 0).all()
    run.top[0].diff[...] = 1
    assert (run.backward()[0] == 1).all()
