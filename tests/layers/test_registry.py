"""Types by name."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import entry_points

import pytest

from poseidon_caffe.errors import LayerError
from poseidon_caffe.layers.base import Layer
from poseidon_caffe.layers.registry import (
    ENTRY_POINT_GROUP,
    known_types,
    layer_class,
    register,
)

ISSUE_2 = [
    "Input",
    "DummyData",
    "Convolution",
    "Pooling",
    "InnerProduct",
    "ReLU",
    "PReLU",
    "Sigmoid",
    "TanH",
    "LRN",
    "Dropout",
    "BatchNorm",
    "Scale",
    "Bias",
    "Eltwise",
    "Concat",
    "Slice",
    "Split",
    "Flatten",
    "Reshape",
    "Softmax",
    "SoftmaxWithLoss",
    "EuclideanLoss",
    "SigmoidCrossEntropyLoss",
    "ContrastiveLoss",
    "Accuracy",
    "ArgMax",
    "Silence",
    "Power",
]


def test_knows_what_is_there():
    assert set(ISSUE_2) <= set(known_types())
    assert all(layer_class(name).type == name for name in known_types())


def test_unknown_type_names_layer_near_match_and_known():
    with pytest.raises(LayerError) as caught:
        layer_class("Convolutoin", where="conv1")
    text = str(caught.value)
    assert '"conv1"' in text
    assert 'did you mean "Convolution"?' in text
    assert "SoftmaxWithLoss" in text


def test_a_name_is_taken_once():
    with pytest.raises(LayerError, match="registered twice"):
        register("ReLU")(type("Other", (Layer,), {}))


PACKAGE = '''
from poseidon_caffe.layers.base import Layer

class Twice(Layer):
    """y = 2 x."""
    num_bottom = num_top = 1
    def reshape(self, bottom, top):
        top[0].reshape(bottom[0].shape)
    def forward(self, bottom, top):
        top[0].data[...] = 2 * bottom[0].data
    def backward(self, top, propagate_down, bottom):
        if propagate_down[0]:
            bottom[0].diff[...] = 2 * top[0].diff
'''
NET = """layer { name: "x" type: "DummyData" top: "x" top: "t" dummy_data_param {
  shape { dim: 4 dim: 3 } shape { dim: 4 dim: 3 } data_filler { value: 1 }
  data_filler { value: 0 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip" inner_product_param {
  num_output: 3 weight_filler { type: "constant" value: 0.5 } } }
layer { name: "twice" type: "%s" bottom: "ip" top: "y" }
layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }
"""
SOLVER = """net: "net.prototxt" base_lr: 0.01 lr_policy: "fixed" max_iter: 20
display: 19 snapshot_prefix: "out" """


def install(folder, package, entries, module=""):
    """A package as pip leaves it: modules and what its metadata registers."""
    (folder / f"{package}.py").write_text(module)
    info = folder / f"{package}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n"
    )
    lines = ["[poseidon_caffe.layers]", *entries]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


def in_a_process(folder, *words):
    """What another process, with those packages installed, says."""
    paths = [str(folder), os.environ.get("PYTHONPATH", "")]
    more = {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env={**os.environ, **more}, timeout=60,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "solver.prototxt").write_text(SOLVER)
    return tmp_path


def train(folder, type_name):
    (folder / "net.prototxt").write_text(NET % type_name)
    words = ("-m", "poseidon_caffe", "train", "--solver", "solver.prototxt")
    return in_a_process(folder, *words)


def test_another_packages_type_is_trained(folder):
    install(folder, "twice_pkg", ["Twice = twice_pkg:Twice"], PACKAGE)
    done = train(folder, "Twice")
    assert done.returncode == 0, done.stderr
    losses = re.findall(r"Iteration \d+.*, loss = (\S+)", done.stderr)
    assert float(losses[0]) == 13.5  # 3 outputs of 3, squared, halved
    assert float(losses[-1]) < 0.1 * 13.5


def test_a_broken_package_hurts_only_who_asks_for_its_type(folder):
    install(folder, "twice_pkg", ["Twice = twice_pkg:Twice"], PACKAGE)
    install(folder, "broken_pkg", ["Broken = broken_pkg:Broken"], "1 / 0\n")
    assert train(folder, "Twice").returncode == 0
    done = train(folder, "Broken")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    said = 'layer type "Broken", entry point "broken_pkg:Broken" of broken_pkg: cannot'
    assert f"{said} be imported (ZeroDivisionError: division by zero)" in done.stderr
    unknown = train(folder, "Twise")
    assert 'did you mean "Twice"?' in unknown.stderr
    listed = in_a_process(
        folder, "-c",
        "from poseidon_caffe.layers.registry import known_types; known_types()",
    )  # fmt: skip
    assert "of broken_pkg: cannot be imported" in listed.stderr


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("Path = pathlib:Path", "must be a subclass of poseidon_caffe.layers.base.La"),
        ("ReLU = twice_pkg:Twice", 'layer type "ReLU" is registered twice'),
    ],
)
def test_packages_register_new_layer_types_only(folder, entry, said):
    install(folder, "twice_pkg", [entry], PACKAGE)
    done = train(folder, entry.split(" ")[0])
    assert done.returncode == 1
    assert said in done.stderr


def test_python_layers_come_by_an_entry_point_of_our_own():
    ours = [e for e in entry_points(group=ENTRY_POINT_GROUP) if e.name == "Python"]
    assert {e.value for e in ours} == {"poseidon_caffe.caffe.python_layer:Python"}
    assert layer_class("Python").runs_user_code
