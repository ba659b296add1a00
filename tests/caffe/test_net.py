from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from poseidon_caffe import caffe
from poseidon_caffe.errors import ParseError, ShapeError, UsageError, WeightsError


@pytest.fixture
def net(net_file):
    caffe.set_random_seed(3)
    opened = caffe.Net(net_file, caffe.TRAIN)
    rng = np.random.default_rng(0)
    opened.blobs["data"].data[...] = rng.standard_normal((4, 2, 6, 7))
    opened.blobs["label"].data[...] = [0, 2, 1, 2]
    return opened


# -- opening ----------------------------------------------------------------------
def test_phase_level_and_stages_choose_the_layers(net_file):
    def names(*args, **kwargs):
        return caffe.Net(net_file, *args, **kwargs)._layer_names

    assert "accuracy" not in names(caffe.TRAIN)
    assert "accuracy" in names(caffe.TEST)
    assert "accuracy" in names(phase=caffe.TEST)
    assert "extra" not in names(caffe.TRAIN, stages=["more"])
    assert "extra" in names(caffe.TRAIN, level=2, stages=["more"])
    assert "extra" in names(caffe.TRAIN, 2, ["more"])


def test_weights_three_ways(net, net_file, tmp_path):
    path = str(tmp_path / "w.caffemodel")
    net.save(path)
    copied = caffe.Net(net_file, caffe.TEST)
    copied.copy_from(path)
    for other in (
        copied,
        caffe.Net(net_file, path, caffe.TEST),
        caffe.Net(net_file, caffe.TEST, weights=path),
        caffe.Net(net_file, caffe.TEST, weights=Path(path)),
    ):
        for layer in net.params:
            for mine, theirs in zip(
                net.params[layer], other.params[layer], strict=True
            ):
                np.testing.assert_array_equal(mine.data, theirs.data)


def test_missing_files_are_runtime_errors(net_file, tmp_path):
    missing = str(tmp_path / "nothing")
    with pytest.raises(RuntimeError, match="nothing") as caught:
        caffe.Net(missing, caffe.TEST)
    assert isinstance(caught.value, ParseError)
    with pytest.raises(RuntimeError, match="nothing"):
        caffe.Net(net_file, missing, caffe.TEST)
    with pytest.raises(RuntimeError, match="nothing"):
        caffe.Net(net_file, caffe.TEST, weights=missing)


@pytest.mark.parametrize("phase", [None, 2, -1])
def test_a_phase_is_needed(net_file, phase):
    with pytest.raises(UsageError, match=r"caffe\.TRAIN or caffe\.TEST"):
        caffe.Net(net_file, phase)


# -- looking ----------------------------------------------------------------------
def test_names(net_file):
    net = caffe.Net(net_file, caffe.TEST)
    split = ["label_data_1_split_0", "label_data_1_split_1", "ip_ip_0_split_0",
             "ip_ip_0_split_1"]  # fmt: skip
    assert net.name == "small"
    assert net.inputs == ["data", "label"]
    assert net.outputs == ["accuracy", "loss"]
    assert list(net.blobs) == [
        "data", "label", *split[:2], "conv", "ip", *split[2:], "loss", "accuracy",
    ]  # fmt: skip
    assert net._layer_names == [
        "data", "label_data_1_split", "conv", "relu", "ip", "ip_ip_0_split", "loss",
        "accuracy",
    ]  # fmt: skip
    assert list(net.params) == ["conv", "ip"]
    assert isinstance(net.blobs, OrderedDict)
    assert isinstance(net.params, OrderedDict)
    assert net.bottom_names["relu"] == ["conv"] == net.top_names["relu"]
    assert net.bottom_names["loss"] == [split[2], split[0]]
    assert net.bottom_names["data"] == []
    assert list(net.layer_dict) == net._layer_names
    assert [layer.type for layer in net.layers[:3]] == ["Input", "Split", "Convolution"]
    assert net.layer_dict["ip"].name == "ip"
    assert net._blob_names == list(net.blobs)
    names = net._blob_names
    assert [names[i] for i in net._inputs] == net.inputs
    assert [names[i] for i in net._outputs] == net.outputs
    assert [names[i] for i in net._bottom_ids(6)] == net.bottom_names["loss"]
    assert [names[i] for i in net._top_ids(0)] == ["data", "label"]
    assert len(net._blobs) == len(names)


def test_a_loss_without_a_top_is_no_output(net_file):
    text = Path(net_file).read_text().replace('top: "loss"', "")
    Path(net_file).write_text(text)
    net = caffe.Net(net_file, caffe.TEST)
    assert net.outputs == ["accuracy"]
    (unnamed,) = net.top_names["loss"]
    assert unnamed.startswith("(automatic)")
    net.blobs["data"].data[...] = 1
    net.forward()
    assert net._forward(0, len(net.layers) - 1) == pytest.approx(
        2 * float(net.blobs[unnamed].data)
    )


def test_loss_weights(net):
    assert net.blob_loss_weights["loss"] == 2
    assert net.blob_loss_weights["ip"] == 0
    assert list(net.blob_loss_weights) == list(net.blobs)
    assert net._blob_loss_weights == list(net.blob_loss_weights.values())


# -- running ----------------------------------------------------------------------
def _expected(net):
    """conv, ip and the weighted loss in plain NumPy."""
    x = net.blobs["data"].data.astype(np.float64)
    w, b = (blob.data.astype(np.float64) for blob in net.params["conv"])
    conv = np.zeros((4, 5, 4, 5))
    for i in range(4):
        for j in range(5):
            patch = x[:, None, :, i : i + 3, j : j + 3]
            conv[:, :, i, j] = (patch * w).sum((2, 3, 4)) + b
    conv = np.maximum(conv, 0)
    w, b = (blob.data.astype(np.float64) for blob in net.params["ip"])
    ip = conv.reshape(4, -1) @ w.T + b
    p = np.exp(ip - ip.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    label = net.blobs["label"].data.astype(int)
    return conv, ip, -np.log(p[np.arange(4), label]).mean()


def test_forward_computes(net):
    outputs = net.forward()
    conv, ip, loss = _expected(net)
    assert list(outputs) == ["loss"]
    np.testing.assert_allclose(outputs["loss"], loss, rtol=1e-5)
    np.testing.assert_allclose(net.blobs["conv"].data, conv, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(net.blobs["ip"].data, ip, rtol=1e-4, atol=1e-6)
    assert net._forward(0, len(net.layers) - 1) == pytest.approx(2 * loss, rel=1e-5)


def test_outputs_are_live_views(net):
    outputs = net.forward(blobs=["ip", "conv"])
    assert set(outputs) == {"loss", "ip", "conv"}
    assert np.shares_memory(outputs["ip"], net.blobs["ip"].data)
    before = outputs["ip"].copy()
    net.blobs["data"].data[...] *= 2
    net.forward()
    assert (outputs["ip"] != before).any()


def test_changing_parameters_takes_effect_at_once(net):
    weights = net.params["conv"][0].data  # held over forwards
    for factor in (1.0, 2.0, -1.0):
        weights *= factor
        net.forward()
        np.testing.assert_allclose(
            net.blobs["conv"].data, _expected(net)[0], rtol=1e-4, atol=1e-6
        )
    net.params["ip"][1].data.flat = [5, 6, 7]
    net.params["ip"][0].data[...] = 0
    net.forward()
    np.testing.assert_array_equal(net.blobs["ip"].data, [[5, 6, 7]] * 4)


def test_forward_between_layers(net):
    net.forward()
    net.blobs["conv"].data[...] = 1
    outputs = net.forward(start="ip", end="ip")
    assert list(outputs) == ["ip"]
    w, b = (blob.data for blob in net.params["ip"])
    np.testing.assert_allclose(outputs["ip"][0], w.sum(1) + b, rtol=1e-4)
    stopped = net.forward(end="conv")
    assert list(stopped) == ["conv"]
    # What follows "conv" has not run: its ReLU works in place.
    assert (stopped["conv"] < 0).any()


def test_forward_with_inputs(net):
    data = np.random.default_rng(1).standard_normal((4, 2, 6, 7))
    net.forward(data=data, label=np.ones(4))
    np.testing.assert_array_equal(net.blobs["data"].data, data.astype(np.float32))
    with pytest.raises(UsageError, match=r"inputs are \['data', 'label'\]"):
        net.forward(data=data)
    with pytest.raises(ShapeError, match="batch"):
        net.forward(data=data[:3], label=np.ones(4))
    with pytest.raises(ValueError, match="broadcast") as caught:
        net.forward(data=data[:, :, 1:], label=np.ones(4))
    assert 'blob "data"' in caught.value.__notes__[0]


def test_backward_is_the_gradient(net):
    net.forward()
    net.clear_param_diffs()
    gradients = net.backward(diffs=["ip"])
    assert set(gradients) == {"data", "label", "ip"}
    rng = np.random.default_rng(2)
    for blob, gradient in [
        (net.blobs["data"], gradients["data"].copy()),
        (net.params["conv"][0], net.params["conv"][0].diff.copy()),
        (net.params["ip"][1], net.params["ip"][1].diff.copy()),
    ]:
        direction = rng.standard_normal(blob.shape)
        losses = []
        original = blob.data.copy()
        for sign in (1, -1):
            blob.data[...] = original + sign * 1e-3 * direction
            losses.append(2 * _expected(net)[2])
        blob.data[...] = original
        slope = (losses[0] - losses[1]) / 2e-3
        assert (gradient * direction).sum() == pytest.approx(slope, rel=2e-2, abs=1e-4)


def test_backward_between_layers_and_from_given_gradients(net):
    net.forward()
    net.blobs["ip"].diff[...] = [1, 0, 0]
    gradients = net.backward(start="ip", end="ip")
    assert list(gradients) == ["conv"]
    expected = np.broadcast_to(
        net.params["ip"][0].data[0].reshape(5, 4, 5), (4, 5, 4, 5)
    )
    np.testing.assert_allclose(gradients["conv"], expected, rtol=1e-5)


def test_backward_from_an_outputs_gradient(tmp_path):
    path = tmp_path / "n.prototxt"
    path.write_text(
        'force_backward: true layer { name: "x" type: "Input" top: "x" input_param {'
        ' shape { dim: 2 dim: 3 } } } layer { name: "r" type: "ReLU" bottom: "x"'
        ' top: "y" relu_param { negative_slope: 0.5 } }'
    )
    net = caffe.Net(str(path), caffe.TEST)
    x = np.array([[1, -1, 2], [-2, 3, -3]])
    np.testing.assert_array_equal(net.forward(x=x)["y"], np.where(x > 0, x, x / 2))
    diff = np.arange(6.0).reshape(2, 3)
    got = net.backward(y=diff)["x"]
    np.testing.assert_array_equal(got, np.where(x > 0, diff, diff / 2))
    with pytest.raises(UsageError, match=r"outputs are \['y'\]"):
        net.backward(z=diff)
    with pytest.raises(ShapeError, match='"y"'):
        net.backward(y=diff[:1])


def test_gradients_accumulate_until_cleared(net):
    net.forward()
    net.clear_param_diffs()
    net.backward()
    once = net.params["conv"][0].diff.copy()
    assert once.any()
    net.backward()
    np.testing.assert_allclose(
        net.params["conv"][0].diff, 2 * once, rtol=1e-4, atol=1e-7
    )
    net.clear_param_diffs()
    assert not net.params["conv"][0].diff.any()


def test_unknown_names(net):
    with pytest.raises(UsageError, match="did you mean 'conv'"):
        net.forward(start="conv1")
    with pytest.raises(UsageError, match="no layer 'xyz'"):
        net.backward(end="xyz")
    with pytest.raises(UsageError, match="no blob 'ipp'; did you mean 'ip'"):
        net.forward(blobs=["ipp"])
    with pytest.raises(UsageError, match="no blob"):
        net.backward(diffs=["nope"])
    with pytest.raises(KeyError):
        _ = net.blobs["nope"]


def test_reshape(net):
    small = net.forward(blobs=["ip"])["ip"][:1].copy()
    data = net.blobs["data"].data[:1].copy()
    net.blobs["data"].reshape(1, 2, 6, 7)
    net.blobs["label"].reshape(1)
    net.reshape()
    assert net.blobs["conv"].shape == (1, 5, 4, 5)
    assert net.blobs["ip"].shape == (1, 3)
    net.blobs["data"].data[...] = data
    np.testing.assert_allclose(
        net.forward(blobs=["ip"])["ip"], small, rtol=1e-4, atol=1e-6
    )
    net.blobs["data"].reshape(9, 2, 6, 7)
    net.blobs["label"].reshape(9)
    net.forward()  # reshapes by itself, and may grow
    assert net.blobs["ip"].data.shape == (9, 3)


def test_a_blob_that_a_layer_makes_gets_its_shape_back(net):
    expected = net.forward(blobs=["conv", "ip"])
    expected = {name: values.copy() for name, values in expected.items()}
    for name in ("conv", "ip"):
        net.blobs[name].reshape(2)
    for name, values in net.forward(blobs=["conv", "ip"]).items():
        np.testing.assert_array_equal(values, expected[name])


def test_callbacks(net):
    calls: list = []
    net.before_forward(lambda layer: calls.append(("bf", layer)))
    net.after_forward(lambda layer: calls.append(("af", layer)))
    net.before_backward(lambda layer: calls.append(("bb", layer)))
    net.after_backward(lambda layer: calls.append(("ab", layer)))
    net.forward(start="conv", end="relu")
    net.backward(start="relu", end="conv")
    assert calls == [
        ("bf", 1), ("af", 1), ("bf", 2), ("af", 2),
        ("bb", 2), ("ab", 2), ("bb", 1), ("ab", 1),
    ]  # fmt: skip


def test_a_callback_may_raise(net):
    def fail(layer):
        raise ZeroDivisionError("mine")

    net.before_forward(fail)
    with pytest.raises(ZeroDivisionError, match="mine"):
        net.forward()


# -- weights ----------------------------------------------------------------------
def test_hdf5(net, net_file, tmp_path):
    path = str(tmp_path / "w.caffemodel.h5")
    net.save_hdf5(path)
    for load in ("load_hdf5", "copy_from"):
        other = caffe.Net(net_file, caffe.TEST)
        getattr(other, load)(path)
        for index in range(2):
            np.testing.assert_array_equal(
                net.params["conv"][index].data, other.params["conv"][index].data
            )


def test_a_saved_net_holds_no_gradients(net, tmp_path):
    net.forward()
    net.backward()
    net.save(str(tmp_path / "w.caffemodel"))
    stored = caffe.caffe_pb2.NetParameter.FromString(
        (tmp_path / "w.caffemodel").read_bytes()
    )
    (conv,) = [layer for layer in stored.layer if layer.name == "conv"]
    assert list(conv.blobs[0].shape.dim) == [5, 2, 3, 3]
    assert not conv.blobs[0].diff
    np.testing.assert_array_equal(
        caffe.io.blobproto_to_array(conv.blobs[1]), net.params["conv"][1].data
    )


def test_weights_of_another_shape(net, net_file, tmp_path):
    net.save(str(tmp_path / "w.caffemodel"))
    text = Path(net_file).read_text()
    Path(net_file).write_text(
        text.replace("num_output: 5", "num_output: 6").replace(
            "_output: 3", "_output: 4"
        )
    )
    with pytest.raises(WeightsError, match=r"conv.*ip"):
        caffe.Net(net_file, str(tmp_path / "w.caffemodel"), caffe.TRAIN)


def test_share_with(net, net_file):
    other = caffe.Net(net_file, caffe.TEST)
    weights = other.params["conv"][0]
    assert (weights.data != net.params["conv"][0].data).any()
    other.share_with(net)
    net.params["conv"][0].data[...] = 0.25
    np.testing.assert_array_equal(other.params["conv"][0].data, 0.25)
    other.blobs["data"].data[...] = 1
    other.forward(end="conv")
    np.testing.assert_allclose(
        other.blobs["conv"].data,
        4.5 + net.params["conv"][1].data.reshape(1, 5, 1, 1) + np.zeros((4, 5, 4, 5)),
        rtol=1e-5,
    )


def test_nets_from_several_threads(net_file):
    """Nets of a process share kernels; one computes at a time."""
    from concurrent.futures import ThreadPoolExecutor

    nets = [caffe.Net(net_file, caffe.TEST) for _ in range(4)]
    for seed, each in enumerate(nets):
        rng = np.random.default_rng(seed)
        each.blobs["data"].data[...] = rng.standard_normal((4, 2, 6, 7))
    alone = [each.forward(blobs=["ip"])["ip"].copy() for each in nets]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(10):
            list(pool.map(lambda each: each.forward(), nets))
    for each, expected in zip(nets, alone, strict=True):
        np.testing.assert_array_equal(each.blobs["ip"].data, expected)
