"""Every model of the zoo parses, has the published shape, loads and steps."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from poseidon_caffe import caffe
from poseidon_caffe.schema.messages import NetParameter, SolverParameter
from poseidon_caffe.schema.text import read_prototxt

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "models"
BATCH = 2

# Parameters of the deployed net and, where helping classifiers make a difference,
# of the training net; from the papers and the zoo.
PARAMETERS = {
    "alexnet": (60_965_224, 60_965_224),
    "caffenet": (60_965_224, 60_965_224),
    "cifar10_full": (89_578, 89_578),
    "cifar10_quick": (145_578, 145_578),
    "googlenet": (6_998_552, 13_378_280),
    "lenet": (431_080, 431_080),
    # 25,557,032 learnable, conv1's bias (64) as released, and the running
    # mean, variance and factor of 53 BatchNorm layers.
    "resnet50": (25_610_269, 25_610_269),
    "vgg16": (138_357_544, 138_357_544),
    "vgg19": (143_667_240, 143_667_240),
}
# (channels, side in pixels, classes)
INPUTS = {
    "alexnet": (3, 227, 1000),
    "caffenet": (3, 227, 1000),
    "cifar10_full": (3, 32, 10),
    "cifar10_quick": (3, 32, 10),
    "googlenet": (3, 224, 1000),
    "lenet": (1, 28, 10),
    "resnet50": (3, 224, 1000),
    "vgg16": (3, 224, 1000),
    "vgg19": (3, 224, 1000),
}
BIG = ("vgg16", "vgg19")  # a step takes gigabytes and many seconds
FOLDERS = sorted(PARAMETERS)
STEPPING = [
    pytest.param(folder, marks=pytest.mark.slow if folder in BIG else ())
    for folder in FOLDERS
]
# Ours and the same net among the recordings of Caffe.
RECORDED = {
    "alexnet": "alexnet_deploy.prototxt",
    "cifar10_full": "cifar10_full_deploy.prototxt",
    "cifar10_quick": "cifar10_quick_train.prototxt",
    "googlenet": "googlenet_deploy.prototxt",
    "lenet": "lenet_deploy.prototxt",
    "resnet50": "ResNet-50-deploy.prototxt",
    "vgg16": "vgg-16.prototxt",
}


def _with_dummy_data(net, folder):
    """The net with its Data layers replaced by random images and zero labels."""
    channels, side, _ = INPUTS[folder]
    for layer in net.layer:
        if layer.type != "Data":
            continue
        layer.type = "DummyData"
        for field in ("data_param", "transform_param"):
            layer.ClearField(field)
        dummy = layer.dummy_data_param
        dummy.shape.add(dim=[BATCH, channels, side, side])
        dummy.shape.add(dim=[BATCH])
        dummy.data_filler.add(type="gaussian", std=1.0)
        dummy.data_filler.add(type="constant", value=0)
    return net


def _write(path, message):
    from google.protobuf import text_format

    path.write_text(text_format.MessageToString(message), encoding="utf-8")
    return str(path)


def _dummy_net(tmp_path, folder):
    net = read_prototxt(MODELS / folder / "train_val.prototxt", NetParameter)
    return _write(tmp_path / "net.prototxt", _with_dummy_data(net, folder))


def _deployed(tmp_path, folder, batch=1):
    net = read_prototxt(MODELS / folder / "deploy.prototxt", NetParameter)
    net.layer[0].input_param.shape[0].dim[0] = batch
    return caffe.Net(_write(tmp_path / "deploy.prototxt", net), caffe.TEST)


def _count(net):
    return sum(blob.data.size for blobs in net.params.values() for blob in blobs)


def test_zoo_is_complete():
    assert sorted(path.name for path in MODELS.iterdir() if path.is_dir()) == FOLDERS


@pytest.mark.parametrize("folder", FOLDERS)
def test_folder_holds_the_three_files_and_a_readme(folder):
    names = {path.name for path in (MODELS / folder).iterdir()}
    assert {
        "train_val.prototxt",
        "deploy.prototxt",
        "solver.prototxt",
        "readme.md",
    } <= names
    lines = (MODELS / folder / "readme.md").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "---"
    front = dict(line.split(": ", 1) for line in lines[1 : lines.index("---", 1)])
    assert {"name", "license"} <= set(front)
    if "caffemodel_url" in front:
        assert front["caffemodel"]
        assert len(front["sha1"]) == 40


def test_committed_prototxts_are_what_the_script_writes(tmp_path):
    script = ROOT / "scripts" / "make_models.py"
    subprocess.run([sys.executable, script, tmp_path], check=True, capture_output=True)
    fresh = {p.relative_to(tmp_path): p for p in tmp_path.rglob("*.prototxt")}
    kept = {
        p.relative_to(MODELS): p
        for p in MODELS.rglob("*.prototxt")
        if not p.is_symlink()
    }
    assert fresh.keys() == kept.keys()
    stale = [
        str(name) for name in fresh if fresh[name].read_text() != kept[name].read_text()
    ]
    assert not stale, "run scripts/make_models.py"


@pytest.mark.parametrize(
    "path",
    sorted(MODELS.rglob("*.prototxt")),
    ids=lambda p: f"{p.parent.name}-{p.stem}",
)
def test_prototxt_parses_in_todays_form(path):
    if "solver" not in path.name:
        net = read_prototxt(path, NetParameter)
        assert not net.layers, "V1 layers"
        assert not net.input, "input fields"
        names = [layer.name for layer in net.layer if layer.type != "Data"]
        assert len(names) == len(set(names))
        return
    solver = read_prototxt(path, SolverParameter)
    assert not solver.HasField("solver_type")
    assert (ROOT / solver.net).is_file()
    assert (ROOT / solver.net).parent == path.parent
    assert solver.snapshot <= solver.max_iter


def test_digits_test_net_sees_each_image_once():
    net = read_prototxt(MODELS / "lenet" / "digits_train_test.prototxt", NetParameter)
    solver = read_prototxt(MODELS / "lenet" / "digits_solver.prototxt", SolverParameter)
    test = next(
        layer for layer in net.layer if layer.include and layer.include[0].phase
    )
    assert test.data_param.batch_size * solver.test_iter[0] == 360


@pytest.mark.parametrize("folder", FOLDERS)
def test_deployed_net_has_the_published_shape(tmp_path, folder):
    net = _deployed(tmp_path, folder)
    channels, side, classes = INPUTS[folder]
    assert net.inputs == ["data"]
    assert net.outputs == ["prob"]
    assert net.blobs["data"].data.shape == (1, channels, side, side)
    assert net.blobs["prob"].data.shape == (1, classes)
    assert _count(net) == PARAMETERS[folder][0]


@pytest.mark.parametrize("folder", sorted(RECORDED))
def test_parameters_are_named_and_shaped_as_in_caffe(tmp_path, golden, folder):
    recorded = json.loads((golden / "nets" / "nets.json").read_text())[RECORDED[folder]]
    net = _deployed(tmp_path, folder)
    ours = {
        f"{layer}/{i}": list(blob.data.shape)
        for layer, blobs in net.params.items()
        for i, blob in enumerate(blobs)
    }
    assert ours == recorded["params"]


@pytest.mark.parametrize("folder", STEPPING)
def test_training_net_takes_a_step(tmp_path, folder):
    solver_param = read_prototxt(MODELS / folder / "solver.prototxt", SolverParameter)
    solver_param.net = _dummy_net(tmp_path, folder)
    solver_param.snapshot_prefix = str(tmp_path / "snapshot")
    solver_param.random_seed = 7
    for field in ("test_iter", "test_interval", "iter_size", "snapshot"):
        solver_param.ClearField(field)
    solver = caffe.get_solver(_write(tmp_path / "solver.prototxt", solver_param))
    assert _count(solver.net) == PARAMETERS[folder][1]
    first, *_, last = solver.net.params
    before = [solver.net.params[name][0].data.copy() for name in (first, last)]
    solver.step(1)
    assert solver.iter == 1
    losses = [name for name in solver.net.outputs if "loss" in name]
    assert losses
    for name in losses:
        loss = float(solver.net.blobs[name].data)
        assert math.isfinite(loss)
        assert loss > 0
    for name, old in zip((first, last), before, strict=True):
        new = solver.net.params[name][0].data
        assert np.isfinite(new).all()
        assert (new != old).any(), f"{name} did not learn"


@pytest.mark.parametrize("folder", STEPPING)
def test_test_net_reports_accuracy(tmp_path, folder):
    net = caffe.Net(_dummy_net(tmp_path, folder), caffe.TEST)
    for name, blobs in net.params.items():
        if net.layer_dict[name].type == "BatchNorm":
            # Untrained, the running variance is 0 and activations overflow.
            blobs[1].data[...] = blobs[2].data[...] = 1
    out = net.forward()
    accuracies = [name for name in out if "accuracy" in name or "top-" in name]
    assert accuracies
    for name in accuracies:
        assert float(out[name]) in {0.0, 0.5, 1.0}
