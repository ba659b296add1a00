"""Pooling's sizes, masks and refusals."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe import caffe
from poseidon_caffe.errors import LayerError, ShapeError
from poseidon_caffe.layers.pooling import pooled_length
from poseidon_caffe.types import Phase
from tests.layers.harness import build


def pool(text, shape=(1, 1, 5, 5), **more):
    return build("Pooling", f"pooling_param {{ {text} }}", (shape,), **more)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pad", "ceil", "floor"),
    [
        (32, 3, 2, 0, 16, 15),  # CIFAR: the last window overhangs
        (112, 3, 2, 0, 56, 55),  # GoogLeNet
        (55, 3, 2, 0, 27, 27),
        (4, 2, 2, 0, 2, 2),
        (4, 2, 3, 1, 2, 2),
        (3, 2, 2, 1, 2, 2),  # a third window would start in the padding
        (7, 3, 1, 1, 7, 7),
        (1, 2, 2, 0, 1, 0),
    ],
)
def test_length_is_caffes(size, kernel, stride, pad, ceil, floor):
    for expected, down in ((ceil, False), (floor, True)):
        clip = pad > 0
        got = pooled_length(size, kernel, stride, pad, floor=down, clip=clip)
        assert got == expected


def test_overhanging_windows_see_only_the_image():
    run = pool("pool: MAX kernel_size: 2 stride: 2", (1, 1, 3, 3))
    run.bottom[0].data[...] = -np.arange(9).reshape(1, 1, 3, 3) - 1
    np.testing.assert_array_equal(run.forward()[0][0, 0], [[-1, -3], [-7, -9]])
    run = pool("pool: AVE kernel_size: 2 stride: 2", (1, 1, 3, 3))
    run.bottom[0].data[...] = 8
    # Past the padded image nothing counts, not even in the divisor.
    np.testing.assert_array_equal(run.forward()[0], np.full((1, 1, 2, 2), 8))


def test_average_divides_by_padding_too():
    run = pool("pool: AVE kernel_size: 3 stride: 2 pad: 1")
    run.bottom[0].data[...] = 9
    expected = [[4, 6, 4], [6, 9, 6], [4, 6, 4]]
    np.testing.assert_allclose(run.forward()[0][0, 0], expected, rtol=1e-6)


def test_mask_holds_places_and_ties_go_to_the_first():
    run = pool("pool: MAX kernel_size: 3 stride: 2", (1, 2, 5, 5), num_top=2)
    run.bottom[0].data[...] = 1
    run.bottom[0].data[0, 1, 4, 4] = 2
    _, mask = run.forward()
    np.testing.assert_array_equal(mask[0, 0], [[0, 2], [10, 12]])
    np.testing.assert_array_equal(mask[0, 1], [[0, 2], [10, 24]])
    run.top[0].diff[...] = 1
    dx = run.backward()[0]
    assert dx[0, 1, 4, 4] == 1
    assert dx.sum() == 8


def test_global_pooling_follows_the_input():
    run = pool("pool: AVE global_pooling: true", (2, 3, 5, 7))
    assert run.top[0].shape == (2, 3, 1, 1)
    run.bottom[0].reshape((1, 3, 9, 4))
    run.reshape()
    run.bottom[0].data[...] = 3
    np.testing.assert_allclose(run.forward()[0], np.full((1, 3, 1, 1), 3), rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "needs kernel_size"),
        ("kernel_size: 2 kernel_h: 2 kernel_w: 2", "not both"),
        ("kernel_h: 2", "given together"),
        ("kernel_size: 0", "positive"),
        ("kernel_size: 2 stride: 0", "positive"),
        ("kernel_size: 2 pad: 2", "smaller than the kernel"),
        ("global_pooling: true kernel_size: 2", "excludes kernel_size"),
        ("global_pooling: true pad: 1", "pad 0 and stride 1"),
        ("pool: STOCHASTIC kernel_size: 2 pad: 1", "takes no padding"),
        ("kernel_size: 9 round_mode: FLOOR", "exceeds"),
    ],
)
def test_bad_settings_are_refused(text, message):
    with pytest.raises(LayerError, match=message):
        pool(text)


def test_mask_is_for_max_only():
    with pytest.raises(LayerError, match="MAX"):
        pool("pool: AVE kernel_size: 2", num_top=2)


def test_needs_images():
    with pytest.raises(ShapeError, match=r"b0: \(2, 3\)"):
        pool("kernel_size: 2", (2, 3))


def test_backward_goes_by_the_mask_top():
    """Also when a user has written there, as in Caffe."""
    run = pool("pool: MAX kernel_size: 2 stride: 2", (1, 1, 4, 4), num_top=2)
    run.bottom[0].data[...] = np.arange(16).reshape(4, 4)
    run.forward()
    run.top[0].diff[...] = 1
    run.top[1].data[0, 0, 0, 0] = 4
    dx = run.backward()[0][0, 0]
    assert dx[1, 0] == 1
    assert dx[1, 1] == 0
    assert dx.sum() == 4


READERS = """
force_backward: true
layer { name: "x" type: "Input" top: "x"
        input_param { shape { dim: 1 dim: 2 dim: 4 dim: 4 } } }
layer { name: "s" type: "Scale" bottom: "x" top: "s" }
layer { name: "pool" type: "Pooling" bottom: "s" top: "y" top: "mask"
        pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "a" type: "Power" bottom: "mask" top: "a" power_param { scale: 2 } }
layer { name: "b" type: "Power" bottom: "mask" top: "b" power_param { shift: 1 } }
"""


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_the_mask_may_have_several_readers(backend, tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(READERS)
    with caffe.use_backend(backend):
        net = caffe.Net(str(path), caffe.TRAIN)
    net.blobs["x"].data[...] = np.random.default_rng(1).random((1, 2, 4, 4))
    net.forward()
    mask = net.blobs["mask"].data
    np.testing.assert_array_equal(net.blobs["a"].data, 2 * mask)
    np.testing.assert_array_equal(net.blobs["b"].data, mask + 1)
    net.blobs["y"].diff[...] = 1
    net.backward()
    expected = np.zeros((2, 16))
    for c in range(2):
        expected[c, mask[0, c].astype(int).ravel()] = 1
    np.testing.assert_array_equal(net.blobs["s"].diff.reshape(2, 16), expected)


def test_stochastic_draws_are_kept_by_a_snapshot():
    run = pool("pool: STOCHASTIC kernel_size: 2 stride: 2")
    x = np.random.default_rng(2).random(run.bottom[0].shape)
    run.bottom[0].data[...] = x
    run.forward()
    state = run.layer.state()
    once = run.forward()[0]
    assert (once != run.forward()[0]).any()
    run.layer.restore_state(state)
    np.testing.assert_array_equal(run.forward()[0], once)


def test_stochastic_is_the_same_on_every_backend(cpu):
    x = np.random.default_rng(2).random((2, 3, 6, 6))
    found = []
    for ops, layout in ((None, False), (None, True), (cpu, False), (cpu, True)):
        text = "pooling_param { pool: STOCHASTIC kernel_size: 3 stride: 2 }"
        run = build("Pooling", text, [x.shape], ops=ops, channels_last=layout)
        run.bottom[0].data[...] = x
        y = run.forward()[0]
        run.top[0].diff[...] = y
        found.append((y, run.backward()[0]))
    for y, dx in found[1:]:
        np.testing.assert_array_equal(y, found[0][0])
        np.testing.assert_allclose(dx, found[0][1], rtol=1e-6)


def test_stochastic_in_test_is_the_weighted_mean():
    text = "pooling_param { pool: STOCHASTIC kernel_size: 4 }"
    run = build("Pooling", text, [(1, 1, 4, 4)], phase=Phase.TEST)
    x = np.arange(16.0).reshape(1, 1, 4, 4)
    run.bottom[0].data[...] = x
    np.testing.assert_allclose(run.forward()[0], (x**2).sum() / x.sum(), rtol=1e-6)
    assert run.layer.backward_reads_bottom
    assert run.layer.state() == {}
