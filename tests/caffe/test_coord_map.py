from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe import caffe
from poseidon_caffe.caffe.coord_map import (
    AxisMismatchException,
    UndefinedMapException,
    compose,
    coord_map,
    coord_map_from_to,
    crop,
    inverse,
)
from poseidon_caffe.errors import PoseidonError

L = caffe.layers


def _input(*dims):
    return L.Input(shape={"dim": list(dims)})


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (lambda x: L.Convolution(x, kernel_size=3), (1, 1, -1)),
        (lambda x: L.Convolution(x, kernel_size=3, pad=1, stride=2), (1, 0.5, 0)),
        (lambda x: L.Convolution(x, kernel_size=3, dilation=2), (1, 1, -2)),
        (lambda x: L.Convolution(x, convolution_param={"kernel_size": 5}), (1, 1, -2)),
        (lambda x: L.Im2col(x, convolution_param={"kernel_size": 5}), (1, 1, -2)),
        (lambda x: L.Pooling(x, kernel_size=2, stride=2), (1, 0.5, -0.25)),
        (lambda x: L.Deconvolution(x, kernel_size=4, stride=2, pad=1), (1, 2, 0.5)),
        (lambda x: L.ReLU(x, in_place=True), (None, 1, 0)),
        (L.Swish, (None, 1, 0)),
        (lambda x: L.Crop(x, x, axis=2, offset=3), (1, 1, -3)),
        (lambda x: L.Crop(x, x, crop_param={"offset": [3]}), (1, 1, -3)),
    ],
)
def test_map_of_a_layer(layer, expected):
    assert coord_map(layer(_input(1, 3, 20, 20)).fn) == expected


def test_settings_may_be_a_message():
    param = caffe.params.Convolution(kernel_size=[5], stride=[2])
    top = L.Convolution(_input(1, 3, 20, 20), convolution_param=param)
    assert coord_map(top.fn) == (1, 0.5, -1)


def test_axes_of_their_own():
    data = _input(1, 3, 20, 20, 20)
    top = L.Convolution(data, kernel_size=[1, 3, 5], stride=[1, 2, 1], pad=[0, 1, 0])
    axis, scale, shift = coord_map_from_to(top, data)
    # From above to below: the inverse of the layer's own map.
    assert axis == 1
    np.testing.assert_array_equal(scale, [1, 2, 1])
    np.testing.assert_array_equal(shift, [0, 0, 2])


def test_maps_compose_and_invert():
    first, second = (1, 0.5, -0.25), (1, 2.0, 3.0)
    both = compose(second, first)
    x = np.arange(4.0)
    np.testing.assert_allclose(
        both.scale * x + both.shift, 2.0 * (0.5 * x - 0.25) + 3.0
    )
    axis, scale, shift = compose(both, inverse(both))
    assert (axis, scale, shift) == (1, 1, 0)
    with pytest.raises(AxisMismatchException, match="axes 1 and 2"):
        compose(first, (2, 1, 0))


def test_crop_aligns_pixels():
    """What goes down to half the size and up again is cut to the data's pixels."""
    n = caffe.NetSpec()
    n.data = _input(1, 1, 12, 12)
    n.down = L.Convolution(n.data, num_output=1, kernel_size=2, stride=2, pad=4)
    n.up = L.Deconvolution(
        n.down, convolution_param={"num_output": 1, "kernel_size": 2, "stride": 2}
    )
    n.cut = crop(n.up, n.data)
    layer = n.to_proto().layer[-1]
    assert (layer.type, list(layer.bottom)) == ("Crop", ["up", "data"])
    assert layer.crop_param.axis == 2
    assert list(layer.crop_param.offset) == [4]


def test_crop_between_branches_and_through_crops():
    data = _input(2, 3, 30, 30)
    left = L.Convolution(L.ReLU(data), kernel_size=3)
    right = L.Convolution(L.Convolution(data, kernel_size=5), kernel_size=3)
    cut = crop(left, right)
    assert cut.fn.params["crop_param"] == {"axis": 2, "offset": [2]}
    assert coord_map_from_to(cut, right)[2] == 0
    assert crop(data, data).fn.params["crop_param"] == {"axis": 2, "offset": [0]}
    # The second bottom of a Crop is its size, not its content.
    with pytest.raises(PoseidonError, match="no map"):
        coord_map_from_to(L.Crop(_input(1, 1, 9, 9), data), data)


def test_wide_graphs_are_walked_once():
    top = data = _input(1, 1, 8, 8)
    for _ in range(40):
        top = L.Eltwise(top, L.ReLU(top))
    assert coord_map_from_to(top, data) == (None, 1, 0)


def test_what_cannot_be_mapped():
    data = _input(1, 1, 40, 40)
    with pytest.raises(UndefinedMapException, match="InnerProduct"):
        coord_map(L.InnerProduct(data, num_output=2).fn)
    with pytest.raises(UndefinedMapException, match="kernel_size"):
        coord_map(L.Pooling(data, global_pooling=True).fn)
    with pytest.raises(AssertionError, match="kernel_h"):
        coord_map(L.Convolution(data, kernel_h=3, kernel_w=3).fn)
    with pytest.raises(RuntimeError, match="connected by spatial layers"):
        coord_map_from_to(L.InnerProduct(data, num_output=2), data)


@pytest.mark.parametrize(
    ("layer", "problem"),
    [
        (lambda x: L.Pooling(x, kernel_size=2, stride=2), "scale mismatch"),
        (lambda x: L.Convolution(x, kernel_size=3), "negative offset"),
        (lambda x: L.Convolution(x, kernel_size=2, pad=1), "noninteger offset"),
    ],
)
def test_what_cannot_be_cropped(layer, problem):
    data = _input(1, 1, 40, 40)
    with pytest.raises(AssertionError, match=problem) as caught:
        crop(layer(data), data)
    assert isinstance(caught.value, PoseidonError)
