"""What the fuzzer found, one test for each, on the same path."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.backend.memory import memory_limit
from poseidon_caffe.backend.select import get_ops
from poseidon_caffe.data.datum import decode
from poseidon_caffe.data.db import open_db
from poseidon_caffe.data.image import read_image
from poseidon_caffe.data.imageset import read_list
from poseidon_caffe.data.window_file import read_windows
from poseidon_caffe.errors import DataError, LayerError, ParseError, ShapeError
from poseidon_caffe.net.net import Net
from poseidon_caffe.schema import messages
from poseidon_caffe.schema.upgrade import parse_net, read_net
from poseidon_caffe.types import Phase


def net(layer, *shapes):
    """A net of one layer on constant bottoms, run both ways once."""
    inputs = "".join(
        f'layer {{ name: "x{i}" type: "DummyData" top: "x{i}" dummy_data_param {{ '
        f"shape {{ {' '.join(f'dim: {n}' for n in shape)} }} data_filler {{ "
        "type: 'uniform' } } }\n"
        for i, shape in enumerate(shapes)
    )
    made = Net(parse_net(inputs + layer), ops=get_ops("cpu", 1), phase=Phase.TRAIN)
    made.forward()
    made.backward()
    return made


def refused(layer, *shapes, match, error=LayerError):
    """The net is refused with the layer's name and these words."""
    with pytest.raises(error, match=match) as info:
        net(layer, *shapes)
    assert '"y"' in str(info.value) or '"x0"' in str(info.value)


HEAD = 'layer {{ name: "y" type: "{}" bottom: "x0" top: "y" {} }}'


def test_lrn_over_one_channel_killed_the_process():
    made = net(HEAD.format("LRN", "lrn_param { local_size: 1 alpha: 2 }"), (2, 3, 4, 5))
    x, y = made.blobs["x0"].data, made.blobs["y"].data
    np.testing.assert_allclose(y, x * (1 + 2 * x * x) ** -0.75, rtol=1e-5)


def test_blobs_that_no_memory_holds():
    refused("", (10**6, 10**6), match=r"shape \(1000000, 1000000\) needs 3725.3 GiB")
    refused("", (2**31 - 1,) * 3, match="no machine addresses")
    # Nothing in it, yet NumPy has no array of that shape.
    refused("", (2**31 - 1, 2**31 - 1, 5, 0), match="no machine addresses")
    refused("", (2**62, 0), match="an axis has at most 2147483647 places")


def test_parameters_that_no_memory_holds():
    text = HEAD.format("InnerProduct", "inner_product_param { num_output: 2000000000 }")
    refused(text, (2, 3000), match="GiB")
    text = HEAD.format("Convolution", "convolution_param { num_output: 4294967295 %s }")
    refused(text % "kernel_size: 30000", (1, 3, 9, 9), match="an axis has")


def test_memory_that_runs_out_in_forward_names_the_layer():
    made = net(HEAD.format("ReLU", ""), (2, 3))

    def greedy(bottom, top):
        Blob((memory_limit() // 1000, 1000)).data.sum()

    made.layers[1].forward = greedy
    with pytest.raises(LayerError, match=r'layer "y" \(ReLU\): does not fit .* GiB'):
        made.forward()


def test_shapes_without_axes_or_channels():
    refused(HEAD.format("BatchNorm", ""), (), match="at least one axis")
    refused(HEAD.format("ArgMax", ""), (), match="at least one axis")
    text = HEAD.format(
        "Convolution", "convolution_param { num_output: 1 kernel_size: 1 }"
    )
    refused(text, (2, 0, 3, 3), match="at least one channel")


def test_in_place_with_another_shape():
    text = (
        'layer { name: "y" type: "Convolution" bottom: "x0" top: "x0" '
        "convolution_param { num_output: 5 kernel_size: 1 } }"
    )
    refused(text, (2, 4, 3, 3), match="in place", error=ShapeError)


def test_sizes_beyond_an_int():
    for field in ("kernel_size", "stride", "pad"):
        text = f"{field}: 4294967295" + (" kernel_size: 2" if field[0] != "k" else "")
        both = (
            ("Pooling", f"pooling_param {{ {text} }}"),
            (
                "Convolution",
                f"convolution_param {{ num_output: 1 {text} }}",
            ),
        )
        for case in both:
            refused(HEAD.format(*case), (1, 1, 5, 5), match="at most 2147483647")


def test_mean_of_windows_outside_the_image_is_as_in_the_reference():
    text = HEAD.format(
        "Pooling", "pooling_param { pool: AVE kernel_size: 3 stride: 7 }"
    )
    assert net(text, (1, 1, 8, 10)).blobs["y"].shape == (1, 1, 2, 2)


@pytest.mark.parametrize("kind", ["SoftmaxWithLoss", "SigmoidCrossEntropyLoss"])
def test_normalization_of_a_fork(kind):
    text = (
        f'layer {{ name: "y" type: "{kind}" bottom: "x0" bottom: "x1" top: "y" '
        "loss_param { normalization: PRE_FIXED } }"
    )
    refused(text, (2, 3), (2,), match="PRE_FIXED")


def test_datum_of_negative_sides():
    datum = messages.Datum(channels=-1, height=-1, width=4, data=b"1234")
    with pytest.raises(DataError, match="-1"):
        decode(datum)


LONG = "x" * 5000


def test_names_that_no_file_can_have(tmp_path):
    for name in ("a\0b", LONG):
        with pytest.raises(ParseError):
            read_net(name)
        with pytest.raises(ParseError):
            read_list(name)
        with pytest.raises(DataError):
            open_db(name)
        with pytest.raises(DataError):
            read_image(Path(name))
        with pytest.raises(ParseError):
            read_windows(name, 0.5, 0.5)
    listed = tmp_path / "list.txt"
    listed.write_text(f"{tmp_path}{os.sep}{LONG}\n")
    with pytest.raises(DataError, match="no such HDF5 file"):
        net(
            'layer { name: "x0" type: "HDF5Data" top: "data" hdf5_data_param { '
            f'source: "{listed}" batch_size: 1 }} }}'
        )


def test_deconvolution_of_nothing_is_its_bias():
    text = HEAD.format(
        "Deconvolution",
        "convolution_param { num_output: 3 kernel_size: 2 axis: 2 bias_filler { "
        "type: 'constant' value: 4 } }",
    )
    y = net(text, (2, 1, 3, 0, 2)).blobs["y"].data
    assert y.shape == (2, 1, 3, 1, 3)
    assert (y == 4).all()


def test_prefetch_of_billions_of_batches(golden):
    source = golden / "data" / "raw_lmdb"
    made = net(
        'layer { name: "x0" type: "Data" top: "d" top: "l" data_param { source: '
        f'"{source}" backend: LMDB batch_size: 1 prefetch: 4294967295 }} '
        "transform_param { crop_size: 4 } }"
    )
    assert made.blobs["d"].shape[0] == 1
    made.close()
