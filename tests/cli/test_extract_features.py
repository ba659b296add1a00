from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe import caffe
from poseidon_caffe.cli.main import run
from poseidon_caffe.data.datum import decode, parse_datum
from poseidon_caffe.data.db import open_db

NET = """
layer { name: "d" type: "Data" top: "data" top: "label"
  transform_param { scale: 0.00390625 }
  data_param { source: "SOURCE" batch_size: 48 backend: LMDB } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 5 stride: 3
    weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip"
  inner_product_param { num_output: 10 weight_filler { type: "xavier" } } }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }
"""


@pytest.fixture
def model(digits, tmp_path, monkeypatch):
    """net.prototxt and net.caffemodel in the working folder, and the net itself."""
    monkeypatch.chdir(tmp_path)
    text = NET.replace("SOURCE", str(digits / "digits_test_lmdb"))
    (tmp_path / "net.prototxt").write_text(text)
    net = caffe.Net("net.prototxt", caffe.TEST)
    net.save("net.caffemodel")
    return net


def extract(blobs, datasets, *rest):
    words = ["net.caffemodel", "net.prototxt", blobs, datasets, *rest]
    return run(["extract_features", *words])


def records(path, backend="lmdb"):
    database = open_db(path, backend)
    found = [(database.key(i), database.record(i)) for i in range(len(database))]
    database.close()
    return found


def test_features_are_those_of_the_net(model, tmp_path, capsys):
    assert extract("conv,ip,prob,label", "a,b,c,d", "3", "lmdb", "CPU") == 0
    expected = {name: [] for name in ("conv", "ip", "prob", "label")}
    for _ in range(3):
        model.forward()
        for name, rows in expected.items():
            rows.extend(model.blobs[name].data.copy())
    shapes = {"conv": (4, 8, 8), "ip": (10, 1, 1), "prob": (10, 1, 1)}
    for (name, rows), path in zip(expected.items(), "abcd", strict=True):
        found = records(path)
        assert [key for key, _ in found] == [b"%010d" % i for i in range(144)]
        for (_, value), row in zip(found, rows, strict=True):
            datum = parse_datum(value)
            assert not datum.HasField("label")  # as Caffe's
            assert not datum.HasField("encoded")
            array = decode(datum)
            assert array.shape == shapes.get(name, (1, 1, 1))
            np.testing.assert_allclose(array.ravel(), row.ravel(), rtol=1e-5, atol=1e-6)
    said = capsys.readouterr().err
    assert "Extracted features of 144 query images for feature blob prob" in said
    assert "Successfully extracted the features!" in said
    assert {path.name for path in tmp_path.iterdir()} == {
        "net.prototxt", "net.caffemodel", *"abcd"
    }  # fmt: skip


def test_a_data_layer_reads_them_again(model, tmp_path):
    assert extract("ip", "features", "2", "lmdb") == 0
    (tmp_path / "read.prototxt").write_text(
        'layer { name: "d" type: "Data" top: "data" '
        'data_param { source: "features" batch_size: 96 backend: LMDB } }'
    )
    net = caffe.Net("read.prototxt", caffe.TEST)
    net.forward()
    got = net.blobs["data"].data.reshape(2, 48, 10)
    for batch in got:
        model.forward()
        np.testing.assert_allclose(batch, model.blobs["ip"].data, rtol=1e-5, atol=1e-6)


def test_leveldb(model):
    assert extract("prob", "features", "1", "leveldb") == 0
    found = records("features", "leveldb")
    assert len(found) == 48
    assert parse_datum(found[5][1]).channels == 10


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("ip,prob", "a", "1", "lmdb"), "2 blob names for 1 dataset names"),
        (("ip,prob", "a,a", "1", "lmdb"), "a dataset name of its own"),
        (("ip,", "a,b", "1", "lmdb"), "a dataset name of its own"),
        (("pro", "a", "1", "lmdb"), "unknown feature blob name 'pro'"),
        (("prob", "a", "none", "lmdb"), "num_mini_batches: expected 1 or more"),
        (("prob", "a", "0", "lmdb"), "num_mini_batches: expected 1 or more"),
        (("prob", "a", "1", "sqlite"), "expected lmdb or leveldb"),
        (("prob", "a", "1", "lmdb", "GPU", "x"), "DEVICE_ID: expected 0 or more"),
        (("prob", "a", "1", "lmdb", "GPU", "7"), "no GPU 7: there is 0 ("),
        (("prob", "a"), "num_mini_batches is missing"),
        (("prob,ip", "a,net.prototxt", "1", "lmdb"), "net.prototxt: already exists"),
    ],
)
def test_failures_leave_nothing(words, message, model, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("POSEIDON_GPU", "emulated")
    before = {path.name for path in tmp_path.iterdir()}
    assert extract(*words) == 1
    assert message in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == before
