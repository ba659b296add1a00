from __future__ import annotations

import h5py
import numpy as np
import pytest

from poseidon_caffe import caffe
from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.backend.reference import ReferenceOps
from poseidon_caffe.errors import DataError, ShapeError
from poseidon_caffe.layers.base import LayerContext
from poseidon_caffe.layers.hdf5_output import HDF5Output
from poseidon_caffe.schema.messages import LayerParameter
from poseidon_caffe.types import Shard

NET = """
layer { name: "in" type: "Input" top: "a" top: "b"
  input_param { shape { dim: 3 dim: 2 dim: 4 dim: 5 } shape { dim: 3 } } }
layer { name: "out" type: "HDF5Output" bottom: "a" bottom: "b"
  hdf5_output_param { file_name: "FILE" } }
"""


@pytest.fixture
def target(tmp_path):
    return tmp_path / "out.h5"


def output(target, **context):
    param = LayerParameter(name="out", type="HDF5Output")
    param.hdf5_output_param.file_name = str(target)
    return HDF5Output(param, LayerContext(ReferenceOps(), **context))


def run(layer, arrays):
    bottom = [Blob(a.shape, channels_last=a.ndim == 4) for a in arrays]
    layer.setup(bottom, [])
    layer.reshape(bottom, [])
    for blob, array in zip(bottom, arrays, strict=True):
        blob.data[...] = array
    layer.forward(bottom, [])
    return bottom


def test_a_net_writes_what_hdf5_data_reads(target, tmp_path):
    net = caffe.Net(_write(tmp_path, NET.replace("FILE", str(target))), caffe.TEST)
    rng, kept = np.random.default_rng(0), []
    for step in range(3):
        net.blobs["a"].data[...] = rng.random((3, 2, 4, 5))
        net.blobs["b"].data[...] = step
        kept.append(net.blobs["a"].data.copy())
        net.forward()
    with h5py.File(target) as file:
        np.testing.assert_array_equal(file["data"][()], np.concatenate(kept))
        assert file["label"].shape == (9, 1, 1, 1)  # as Caffe's
        assert file["data"].dtype == np.float32
    (tmp_path / "list").write_text(str(target))
    text = (
        'layer { name: "d" type: "HDF5Data" top: "data" top: "label" '
        f'hdf5_data_param {{ source: "{tmp_path / "list"}" batch_size: 9 }} }}'
    )
    reader = caffe.Net(_write(tmp_path, text), caffe.TEST)
    reader.forward()
    np.testing.assert_array_equal(reader.blobs["data"].data, np.concatenate(kept))
    assert reader.blobs["label"].data.ravel().tolist() == [0] * 3 + [1] * 3 + [2] * 3


def _write(folder, text):
    path = folder / "net.prototxt"
    path.write_text(text)
    return str(path)


def test_gradients_are_zero(target):
    layer = output(target)
    bottom = run(layer, [np.ones((2, 3, 4, 5)), np.zeros((2, 3))])
    for blob in bottom:
        blob.diff[...] = 7
    layer.backward([], [True, False], bottom)
    assert not bottom[0].diff.any()
    assert (bottom[1].diff == 7).all()
    layer.close()
    layer.close()
    with h5py.File(target) as file:
        assert file["label"].shape == (2, 3, 1, 1)


def test_each_worker_has_a_file(target, tmp_path):
    layer = output(target, shard=Shard(1, 2))
    run(layer, [np.ones((2, 3)), np.zeros(2)])
    layer.close()
    assert [p.name for p in tmp_path.iterdir()] == ["out.h5_1"]


def test_refused(target, tmp_path):
    with pytest.raises(ShapeError, match="same batch"):
        run(output(target), [np.ones((2, 3)), np.zeros(3)])
    with pytest.raises(ShapeError, match="at most 4 axes"):
        run(output(target), [np.ones((2, 1, 1, 1, 1)), np.zeros(2)])
    with pytest.raises(DataError, match=r'layer "out" .*does not exist'):
        run(output(tmp_path / "no" / "x.h5"), [np.ones((2, 3)), np.zeros(2)])
    assert not list(tmp_path.iterdir())
