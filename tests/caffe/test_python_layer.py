"""Layers of type Python, by classes that a user might write."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from poseidon_caffe import caffe
from poseidon_caffe.backend.cpu import CpuOps
from poseidon_caffe.errors import LayerError
from poseidon_caffe.net.net import Net as CoreNet
from poseidon_caffe.net.options import NetOptions
from poseidon_caffe.schema.messages import NetParameter
from poseidon_caffe.schema.text import parse_prototxt
from poseidon_caffe.types import Phase

DATA = """layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 2 dim: 2 dim: 4 dim: 3 } } }"""


def python(cls, bottom="data", top="y", settings="", more=""):
    bottoms = " ".join(f'bottom: "{name}"' for name in bottom.split())
    return f"""layer {{ name: "{cls.lower()}" type: "Python" {bottoms} top: "{top}"
      {more} python_param {{ module: "user_layers" layer: "{cls}" {settings} }} }}"""


@pytest.fixture(autouse=True)
def user_module(tmp_path, monkeypatch):
    """The module, where only the working directory leads to it."""
    shutil.copy(Path(__file__).with_name("user_layers.py"), tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in ("user_layers", "broken_layers"):
        sys.modules.pop(name, None)


@pytest.fixture
def make(tmp_path):
    """A net of some layers, by text."""

    def build(*layers, phase=caffe.TRAIN, data=DATA, head="force_backward: true"):
        path = tmp_path / "net.prototxt"
        path.write_text("\n".join([head, data, *layers]))
        return caffe.Net(str(path), phase)

    return build


def layer_of(net, name):
    return net.layers[list(net._layer_names).index(name)]


def test_calls_come_in_caffes_order(make):
    net = make(python("Recorder"))
    user = layer_of(net, "recorder")
    assert type(user).__name__ == "Recorder"  # the user's own object
    assert isinstance(user, caffe.Layer)
    assert user.calls == ["setup", "reshape"]
    net.blobs["data"].data[...] = 3
    assert (net.forward()["y"] == 6).all()
    net.forward()
    assert user.calls[2:] == ["reshape", "forward"] * 2
    net.blobs["y"].diff[...] = 5
    net.backward()
    assert user.calls[-1] == ("backward", [True])
    assert (net.blobs["data"].diff == 10).all()
    net.reshape()
    assert user.calls[-1] == "reshape"


def test_settings_are_handed_over(make):
    layer = python("Asked", bottom="", settings='param_str: "{a: 1}"')
    for phase in (caffe.TRAIN, caffe.TEST):
        net = make(layer, phase=phase, data="")
        assert layer_of(net, "asked").seen == ("{a: 1}", "{a: 1}", phase, "Python")
        assert net.forward()["y"] == phase


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_blobs_are_c_ordered_between_other_layers(make, backend):
    conv = """layer { name: "%s" type: "Convolution" bottom: "%s" top: "%s"
      convolution_param { num_output: 16 kernel_size: 3 pad: 1
        weight_filler { type: "constant" value: 0.01 } } }"""
    layers = [
        conv % ("conv1", "data", "a"),
        python("Flat", "a", "b"),
        conv % ("conv2", "b", "c"),
    ]
    by_power = """layer { name: "power" type: "Power" bottom: "a" top: "b"
      power_param { scale: 2 } }"""
    rng = np.random.default_rng(3)
    x, dy = rng.standard_normal((2, 2, 4, 3)), rng.standard_normal((2, 16, 4, 3))
    found = []
    for middle in (layers[1], by_power):
        with caffe.use_backend(backend):
            net = make(layers[0], middle, layers[2])
        net.blobs["data"].data[...] = x
        y = net.forward()["c"].copy()
        net.blobs["c"].diff[...] = dy
        dx = net.backward()["data"].copy()
        found.append((y, dx, net.params["conv1"][0].diff.copy()))
    for mine, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)


def test_in_place(make):
    net = make(python("InPlace", "data", "data"))
    net.blobs["data"].data[...] = 1
    net.blobs["data"].diff[...] = 1
    assert (net.forward()["data"] == 2).all()
    assert (net.backward()["data"] == 3).all()


@pytest.mark.parametrize("where", ["reshape", "forward"])
def test_tops_may_change_shape_at_any_time(make, where):
    relu = 'layer { name: "r" type: "ReLU" bottom: "y" top: "z" }'
    settings = f'param_str: "{where}"'
    net = make(python("Growing", "", "y", settings), relu, data="")
    start = layer_of(net, "growing").size
    for n in range(start + 1, start + 4):
        z = net.forward()["z"]
        assert z.shape == (n, 3)
        assert (z == n).all()


def test_parameters_learn_and_are_stored(make, tmp_path):
    data = DATA.replace("dim: 2 dim: 2 dim: 4 dim: 3", "dim: 4 dim: 2 dim: 3")
    net = make(python("Weighted"), data=data)
    net.blobs["data"].data[...] = 2
    net.forward()
    net.blobs["y"].diff[...] = 1
    for _ in range(2):  # both add up, through the property and through kept views
        net.backward()
    assert (net.params["weighted"][0].diff == 16).all()
    assert net.params["weighted"][1].diff == 10
    net.clear_param_diffs()
    net.backward()
    assert (net.params["weighted"][0].diff == 8).all()
    net.params["weighted"][0].data[...] = 7
    net.save(str(tmp_path / "w.caffemodel"))
    other = make(python("Weighted"), data=data)
    other.copy_from(str(tmp_path / "w.caffemodel"))
    assert (layer_of(other, "weighted").blobs[0].data == 7).all()
    third = make(python("Weighted"), data=data)
    third.share_with(net)
    net.params["weighted"][0].data[...] = 9
    assert (layer_of(third, "weighted").blobs[0].data == 9).all()


def test_a_parameter_that_does_not_learn_keeps_its_diff(make):
    data = DATA.replace("dim: 2 dim: 2 dim: 4 dim: 3", "dim: 4 dim: 2 dim: 3")
    more = "param { lr_mult: 1 } param { lr_mult: 0 }"
    net = make(python("Weighted", more=more), data=data, head="")
    net.params["weighted"][1].diff[...] = 42
    net.forward()
    net.backward()
    assert net.params["weighted"][1].diff == 42


def test_a_loss_in_python_trains_like_the_built_in_one(tmp_path):
    net = """layer { name: "x" type: "DummyData" top: "x" top: "t" dummy_data_param {
        shape { dim: 8 dim: 3 } shape { dim: 8 dim: 2 }
        data_filler { type: "constant" value: 0.5 } data_filler { type: "constant" value: 2 } } }
      layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip" inner_product_param {
        num_output: 2 weight_filler { type: "constant" value: 0.1 } } }"""  # noqa: E501
    built_in = (
        'layer { name: "l" type: "EuclideanLoss" bottom: "ip" bottom: "t" top: "l" }'
    )
    weights = []
    for i, loss in enumerate(
        (python("Loss", "ip t", "l", more="loss_weight: 1"), built_in)
    ):
        (tmp_path / f"{i}.prototxt").write_text(net + loss)
        (tmp_path / f"s{i}.prototxt").write_text(
            f'net: "{i}.prototxt" base_lr: 0.1 lr_policy: "fixed" momentum: 0.9 '
            "max_iter: 20 snapshot_after_train: false random_seed: 1"
        )
        solver = caffe.SGDSolver(f"s{i}.prototxt")
        solver.step(20)
        assert solver.net.blobs["l"].data.item() < 0.5
        weights.append(solver.net.params["ip"][0].data.copy())
    np.testing.assert_allclose(*weights, rtol=1e-5)


def test_exceptions_go_up_unchanged(make):
    with pytest.raises(Exception, match="in setup") as caught:
        make(python("Failing", settings='param_str: "setup"'))
    assert type(caught.value).__name__ == "Unusual"
    with pytest.raises(MemoryError, match="in setup"):
        make(python("Failing", settings='param_str: "memory"'))
    net = make(python("Failing", settings='param_str: "forward"'))
    with pytest.raises(Exception, match="in forward") as caught:
        net.forward()
    assert type(caught.value).__name__ == "Unusual"
    assert caught.value.__notes__ == [
        'raised in layer "failing" (Python), forward of user_layers.Failing'
    ]


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (python("Missing"), "the module has no such class"),
        (python("np"), "the module has no such class"),
        (python("NoLayer"), "must derive from caffe.Layer"),
        (python("Nothing"), "class Nothing defines no reshape"),
        (python("Flat").replace("user_layers", "nowhere.at_all"), "add its folder to"),
        (python("Flat").replace('module: "user_layers"', ""), "needs a module and"),
        (python("Flat").replace("user_layers", ".up"), "received '.up'"),
    ],
)
def test_errors_name_the_layer(make, layer, said):
    with pytest.raises(LayerError, match=said) as caught:
        make(layer)
    assert "(Python)" in str(caught.value)
    assert not getattr(caught.value, "__notes__", [])  # it is named already


def test_a_function_may_make_the_layer(make):
    net = make(python("make_recorder"))
    assert layer_of(net, "make_recorder").calls == ["setup", "reshape"]


def test_a_missing_import_inside_the_module_is_the_users_own_error(make, tmp_path):
    (tmp_path / "broken_layers.py").write_text("import is_not_there_at_all\n")
    with pytest.raises(ModuleNotFoundError, match="is_not_there_at_all") as caught:
        make(python("Flat").replace("user_layers", "broken_layers"))
    assert "import of broken_layers.Flat" in caught.value.__notes__[0]


def test_nothing_is_fused_or_shared_around_it():
    text = f"""{DATA}
      layer {{ name: "c" type: "Convolution" bottom: "data" top: "c"
        convolution_param {{ num_output: 4 kernel_size: 1 }} }}
      layer {{ name: "r" type: "ReLU" bottom: "c" top: "c" }}"""
    options = NetOptions(fuse=True, share_memory=True)
    fused = []
    for extra in ("", python("Recorder", "c")):
        param = parse_prototxt(text + extra, NetParameter)
        net = CoreNet(param, ops=CpuOps(threads=1), phase=Phase.TRAIN, options=options)
        fused.append(net.layers[2].skip_forward)
    assert fused == [True, False]


def test_state_is_kept_for_resume(make):
    layer = python("Growing", "", "y", 'param_str: "forward"')
    net = make(layer, data="")
    net.forward()
    net.forward()
    state = net._core.state()
    assert state == {"growing": {"size": 2}}
    other = make(layer, data="")
    other._core.restore_state(state)
    assert other.forward()["y"].shape == (3, 3)


def test_a_skipped_batch_moves_a_data_layer_on(make):
    net = make(python("Growing", "", "y", 'param_str: "forward"'), data="")
    net._core.skip_batch()
    assert net.forward()["y"].shape == (2, 3)


def test_the_command_line_trains_with_it(tmp_path):
    (tmp_path / "net.prototxt").write_text(
        DATA.replace('"Input"', '"DummyData"').replace(
            "input_param {", "dummy_data_param { data_filler { value: 1 }"
        )
        + python("Recorder")
        + 'layer { name: "ip" type: "InnerProduct" bottom: "y" top: "ip" '
        "inner_product_param { num_output: 1 } }"
        + python("Loss", "ip ip2", "loss", more="loss_weight: 1")
        .replace('layer { name: "loss"', 'layer { name: "t" type: "DummyData" '
        'top: "ip2" dummy_data_param { shape { dim: 2 dim: 1 } data_filler '
        '{ value: 3 } } } layer { name: "loss"')
    )  # fmt: skip
    (tmp_path / "solver.prototxt").write_text(
        'net: "net.prototxt" base_lr: 0.01 lr_policy: "fixed" max_iter: 30 display: 29 '
        'snapshot_prefix: "out"'
    )
    command = [sys.executable, "-m", "poseidon_caffe", "train", "--solver"]
    done = subprocess.run(
        [*command, "solver.prototxt"], capture_output=True, text=True, check=False,
        cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Iteration 0" in done.stderr
    assert "loss = 4.5" in done.stderr  # 3 * 3 / 2 at first
    assert (tmp_path / "out_iter_30.caffemodel").exists()
