from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest

from poseidon_caffe import caffe
from poseidon_caffe.errors import PoseidonError, ShapeError, UsageError

MEMORY = """layer { name: "memory" type: "MemoryData" top: "data" top: "label"
  memory_data_param { batch_size: 2 channels: 1 height: 2 width: 3 } }
layer { name: "twice" type: "Power" bottom: "data" top: "y" power_param { scale: 2 } }
"""


@pytest.fixture
def memory_net(tmp_path):
    path = tmp_path / "memory.prototxt"
    path.write_text(MEMORY)
    return caffe.Net(str(path), caffe.TEST)


def test_names_and_indices_agree(net_file):
    net = caffe.Net(net_file, caffe.TRAIN)
    assert net._blob_names == list(net.blobs)
    assert [net._blob_names[i] for i in net._inputs] == net.inputs == ["data", "label"]
    assert [net._blob_names[i] for i in net._outputs] == net.outputs == ["loss"]
    for i, name in enumerate(net._layer_names):
        assert [net._blob_names[j] for j in net._top_ids(i)] == net.top_names[name]
        bottoms = [net._blob_names[j] for j in net._bottom_ids(i)]
        assert bottoms == net.bottom_names[name]
        assert net.layer_dict[name].type == net.layers[i].type
        assert isinstance(net.layers[i], caffe.Layer)
    assert net.blob_loss_weights["loss"] == 2
    assert net._blob_loss_weights == list(net.blob_loss_weights.values())
    assert isinstance(net.params, OrderedDict)
    assert [b.shape for b in net._blobs] == [b.shape for b in net.blobs.values()]


def test_views_that_are_held_see_cleared_gradients(net_file):
    net = caffe.Net(net_file, caffe.TRAIN)
    net.blobs["data"].data[...] = 1
    net.forward()
    net.backward()
    held = net.params["ip"][0].diff
    assert held.any()
    net.clear_param_diffs()
    assert not held.any()


def test_hdf5_is_loaded_whatever_its_name(net_file, tmp_path):
    pytest.importorskip("h5py")
    net, path = caffe.Net(net_file, caffe.TRAIN), str(tmp_path / "weights")
    net.save_hdf5(path)
    for load in ("load_hdf5", "copy_from"):
        other = caffe.Net(net_file, caffe.TRAIN)
        getattr(other, load)(path)
        for name, blobs in net.params.items():
            for k, blob in enumerate(blobs):
                np.testing.assert_array_equal(other.params[name][k].data, blob.data)


def test_batches_are_cut_and_padded(net_file):
    net = caffe.Net(net_file, caffe.TRAIN)
    found = list(net._batch({"data": np.ones((6, 3))}))
    assert [len(batch["data"]) for batch in found] == [4, 4]
    assert found[1]["data"][2:].sum() == 0


# -- MemoryData -------------------------------------------------------------------
@pytest.mark.parametrize("shape", [(4,), (4, 1, 1, 1)])
def test_set_input_arrays(memory_net, shape):
    data = np.arange(24, dtype=np.float32).reshape(4, 1, 2, 3)
    labels = np.arange(4, dtype=np.float32).reshape(shape)
    memory_net.set_input_arrays(data, labels)
    for first in (0, 2, 0):  # starts over
        out = memory_net.forward()
        np.testing.assert_array_equal(out["y"], 2 * data[first : first + 2])
        assert out["label"].ravel().tolist() == [first, first + 1]
    memory_net._set_input_arrays(data[2:], labels[2:])
    assert memory_net.forward()["label"].ravel().tolist() == [2, 3]


@pytest.mark.parametrize(
    ("data", "labels"),
    [
        (np.zeros((4, 1, 2, 3)), np.zeros(4, np.float32)),
        (np.zeros((4, 1, 3, 2), np.float32), np.zeros(4, np.float32)),
        (np.zeros((4, 1, 2, 3), np.float32), np.zeros(2, np.float32)),
        (np.zeros((3, 1, 2, 3), np.float32), np.zeros(3, np.float32)),
        (np.zeros((4, 1, 2, 6), np.float32)[..., ::2], np.zeros(4, np.float32)),
        (np.zeros((4, 1, 2, 3), np.float32), np.zeros((4, 2), np.float32)),
        ([[1]], [2]),
    ],
)
def test_arrays_that_do_not_fit_are_refused(memory_net, data, labels):
    with pytest.raises(PoseidonError, match="memory"):
        memory_net.set_input_arrays(data, labels)


def test_only_memory_data_takes_arrays(net_file):
    net = caffe.Net(net_file, caffe.TRAIN)
    with pytest.raises(UsageError, match=r'MemoryData .* it is "data" \(Input\)'):
        net.set_input_arrays(np.zeros((4, 1)), np.zeros(4))


def test_add_blob_makes_zeros():
    from poseidon_caffe.caffe.blob import BlobVec

    blobs = BlobVec([], np.float64)
    blobs.add_blob(2, 3)
    blobs.add_blob()
    assert [blob.shape for blob in blobs] == [(2, 3), ()]
    assert blobs[0].data.dtype == np.float64
    assert not blobs[0].data.any()
    with pytest.raises(ShapeError, match="negative"):
        blobs.add_blob(-1)
