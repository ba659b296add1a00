from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe import caffe
from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.backend.reference import ReferenceOps
from poseidon_caffe.data.datum import array_to_datum
from poseidon_caffe.errors import DataError, LayerError, ShapeError
from poseidon_caffe.layers.base import LayerContext
from poseidon_caffe.layers.memory_data import MemoryData
from poseidon_caffe.schema.messages import LayerParameter
from poseidon_caffe.schema.text import parse_prototxt
from poseidon_caffe.types import Phase

SIZE = "batch_size: 4 channels: 2 height: 3 width: 5"


def build(size=SIZE, rest="", phase=Phase.TEST, **blob):
    text = f'name: "m" type: "MemoryData" memory_data_param {{ {size} }} {rest}'
    param = parse_prototxt(text, LayerParameter)
    layer = MemoryData(param, LayerContext(ReferenceOps(), phase))
    top = [Blob(**blob), Blob()]
    layer.setup([], top)
    return layer, top


def arrays(count=8, shape=(2, 3, 5)):
    data = np.random.default_rng(1).random((count, *shape), np.float32)
    return data, np.arange(count, dtype=np.float32)


@pytest.mark.parametrize("channels_last", [False, True])
def test_steps_through_the_data_and_around(channels_last):
    layer, top = build(channels_last=channels_last)
    assert [blob.shape for blob in top] == [(4, 2, 3, 5), (4,)]
    data, labels = arrays(12)
    layer.reset(data, labels)
    for step in (0, 1, 2, 0, 1):
        layer.forward([], top)
        np.testing.assert_array_equal(top[0].data, data[4 * step : 4 * step + 4])
        assert top[1].shape == (4, 1, 1, 1)  # as Caffe's, from the first forward on
        assert top[1].data.ravel().tolist() == [4 * step + i for i in range(4)]
    layer.reset(data[4:8], labels[4:8].reshape(4, 1, 1, 1))
    layer.forward([], top)
    np.testing.assert_array_equal(top[0].data, data[4:8])


def test_the_arrays_are_not_copied():
    layer, top = build()
    data, labels = arrays(4)
    layer.reset(data, labels)
    data[...], labels[...] = 5, 6
    layer.forward([], top)
    assert (top[0].data == 5).all()
    assert (top[1].data == 6).all()


def test_a_net_trains_on_it(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(
        'layer { name: "m" type: "MemoryData" top: "data" top: "label" '
        f"memory_data_param {{ {SIZE} }} }}"
        'layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" '
        'inner_product_param { num_output: 8 weight_filler { type: "xavier" } } }'
        'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" '
        'top: "loss" }'
    )
    net = caffe.Net(str(path), caffe.TRAIN)
    with pytest.raises(DataError, match=r'"m" \(MemoryData\): has no data yet'):
        net.forward()
    layer = net._core.layers[0]
    layer.reset(*arrays())
    first = float(net.forward()["loss"])
    net.backward()
    assert net.params["ip"][0].diff.any()
    net.forward()
    assert float(net.forward()["loss"]) == first


def test_another_batch_size():
    layer, top = build()
    data, labels = arrays(6)
    layer.set_batch_size(3)
    layer.reset(data, labels)
    layer.forward([], top)
    assert top[0].shape == (3, 2, 3, 5)
    layer.forward([], top)
    np.testing.assert_array_equal(top[0].data, data[3:])
    with pytest.raises(DataError, match="positive"):
        layer.set_batch_size(0)


def test_datums_are_transformed():
    size = "batch_size: 2 channels: 2 height: 2 width: 2"
    rest = "transform_param { scale: 0.5 mean_value: 3 crop_size: 2 }"
    layer, top = build(size, rest)
    images = [np.full((2, 4, 4), 10 * i, np.uint8) for i in range(4)]
    layer.add_datums([array_to_datum(image, i) for i, image in enumerate(images)])
    with pytest.raises(DataError, match="consumed"):
        layer.add_datums([array_to_datum(images[0], 0)] * 2)
    with pytest.raises(DataError, match="consumed"):
        layer.set_batch_size(1)
    for step in range(2):
        layer.forward([], top)
        assert top[0].data[1, 1, 0, 0] == (10 * (2 * step + 1) - 3) * 0.5
        assert top[1].data.ravel().tolist() == [2 * step, 2 * step + 1]
    with pytest.raises(ShapeError, match="multiple of 2"):
        layer.add_datums([array_to_datum(images[0], 0)] * 3)
    with pytest.raises(ShapeError, match="not \\(2, 2, 2\\)"):
        layer.add_datums([array_to_datum(np.zeros((1, 4, 4), np.uint8), 0)] * 2)


def test_a_transformation_is_not_for_arrays():
    layer, top = build(rest="transform_param { scale: 0.5 }")
    notes = []
    layer.note = notes.append
    data, labels = arrays(4)
    layer.reset(data, labels)
    layer.forward([], top)
    np.testing.assert_array_equal(top[0].data, data)
    assert len(notes) == 1
    assert "does not transform" in notes[0]


def test_what_reset_refuses():
    layer, _ = build()
    data, labels = arrays()
    with pytest.raises(ShapeError, match="data has the shape"):
        layer.reset(data[:, :1].copy(), labels)
    with pytest.raises(ShapeError, match="labels has the shape"):
        layer.reset(data, np.zeros((8, 2), np.float32))
    with pytest.raises(ShapeError, match="8 data for 7 labels"):
        layer.reset(data, labels[:7])
    with pytest.raises(ShapeError, match="6 data: needed is a multiple of 4"):
        layer.reset(data[:6], labels[:6])
    with pytest.raises(ShapeError, match="multiple"):
        layer.reset(data[:0], labels[:0])
    with pytest.raises(DataError, match="float32 and C-contiguous"):
        layer.reset(data.astype(np.float64), labels)
    with pytest.raises(DataError, match="float32 and C-contiguous"):
        layer.reset(data[:, :, :, ::-1], labels)
    with pytest.raises(DataError, match="not float32 with other strides"):
        layer.reset(np.asfortranarray(data), labels)


@pytest.mark.parametrize("missing", ["batch_size", "channels", "height", "width"])
def test_all_sizes_are_needed(missing):
    words = dict(zip(SIZE.split()[::2], SIZE.split()[1::2], strict=True))
    del words[f"{missing}:"]
    with pytest.raises(LayerError, match="must all be given"):
        build(" ".join(f"{k} {v}" for k, v in words.items()))
