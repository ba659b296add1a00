from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe import caffe
from poseidon_caffe.caffe.batches import split
from poseidon_caffe.errors import ShapeError, UsageError


@pytest.fixture
def net(net_file):
    return caffe.Net(net_file, caffe.TRAIN)


@pytest.fixture
def samples():
    rng = np.random.default_rng(0)
    data = rng.standard_normal((10, 2, 6, 7)).astype(np.float32)
    return {"data": data, "label": np.arange(10) % 3}


def test_split_pads_with_zeros():
    parts = list(split({"a": np.arange(1, 6), "b": np.ones((5, 2))}, 2))
    assert [part["a"].tolist() for part in parts] == [[1, 2], [3, 4], [5, 0]]
    np.testing.assert_array_equal(parts[2]["b"], [[1, 1], [0, 0]])


def test_forward_all_is_forward_of_every_batch(net, samples):
    outputs = net.forward_all(blobs=["ip"], **samples)
    assert outputs["ip"].shape == (10, 3)
    assert outputs["loss"].shape == (3,)  # one per batch
    for start in (0, 4, 6):
        batch = {name: array[start : start + 4] for name, array in samples.items()}
        got = net.forward(blobs=["ip"], **batch)["ip"]
        np.testing.assert_allclose(
            got, outputs["ip"][start : start + 4], rtol=1e-4, atol=1e-6
        )


def test_forward_backward_all(net, samples):
    outputs, gradients = net.forward_backward_all(diffs=["conv"], **samples)
    assert set(outputs) == {"loss"}
    assert gradients["data"].shape == (10, 2, 6, 7)
    assert gradients["conv"].shape == (10, 5, 4, 5)
    net.forward(**{name: array[4:8] for name, array in samples.items()})
    net.backward()
    np.testing.assert_allclose(
        net.blobs["data"].diff, gradients["data"][4:8], rtol=1e-4, atol=1e-7
    )


def test_results_are_copies(net, samples):
    outputs = net.forward_all(blobs=["ip"], **samples)
    before = outputs["ip"].copy()
    net.forward_all(data=np.zeros((4, 2, 6, 7)), label=np.zeros(4))
    np.testing.assert_array_equal(outputs["ip"], before)


def test_wrong_inputs(net, samples):
    with pytest.raises(UsageError, match="inputs are"):
        net.forward_all(data=samples["data"])
    with pytest.raises(UsageError, match="inputs are"):
        net.forward_all(**samples, loss=np.zeros(10))
    with pytest.raises(ShapeError, match="same number of samples"):
        net.forward_all(data=samples["data"], label=np.zeros(9))
