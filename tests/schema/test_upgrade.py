from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from poseidon_caffe.errors import ParseError
from poseidon_caffe.schema import binary, messages, upgrade, wire
from poseidon_caffe.schema.text import parse_prototxt, read_prototxt

GOLDEN = Path(__file__).parents[1] / "golden"
OLD = sorted((GOLDEN / "upgrade").glob("*.prototxt"))


def _net(text):
    return parse_prototxt(text, messages.NetParameter)


def _upgraded(text):
    """The net upgraded, with the notes."""
    notes = []
    return upgrade.parse_net(text, "net.prototxt", notes), notes


@pytest.mark.parametrize("path", OLD, ids=lambda path: path.stem)
def test_as_caffes_tool_upgrades(path):
    notes = []
    net = upgrade.read_net(path, notes)
    wanted = path.with_name(path.name + ".upgraded")
    assert net == read_prototxt(wanted, messages.NetParameter)
    assert notes
    assert all(note.startswith(f"{path}: ") for note in notes)
    assert not upgrade.needs_upgrade(net)
    assert upgrade.upgrade_net(net) == []


def test_new_nets_stay_as_they_are():
    for path in sorted((GOLDEN / "upgrade").glob("*.upgraded")):
        notes = []
        net = upgrade.read_net(path, notes)
        assert net == read_prototxt(path, messages.NetParameter)
        assert notes == []


def test_input_shapes():
    net, notes = _upgraded(
        """
        input: "a" input_shape { dim: 1 dim: 2 }
        input: "b" input_shape { dim: 3 }
        layer { name: "x" }
        """
    )
    assert net == _net(
        """
        layer {
          name: "input" type: "Input" top: "a" top: "b"
          input_param { shape { dim: 1 dim: 2 } shape { dim: 3 } }
        }
        layer { name: "x" }
        """
    )
    assert notes == ["net.prototxt: upgraded input fields to an Input layer: a, b"]


def test_inputs_without_shapes_are_dropped():
    """Caffe does so; weight files of its early days have such inputs."""
    net, notes = _upgraded('input: "a" layer { name: "x" }')
    assert net == _net('layer { name: "x" }')
    assert "no shape" in notes[0]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ("input_dim: 1 input_dim: 2", "1 'input' need 4 'input_dim' .*not 2"),
        ('input: "b" input_shape { }', "2 'input' need 2 'input_shape', not 1"),
    ],
)
def test_inputs_with_too_few_shapes(fields, said):
    with pytest.raises(ParseError, match=f"net.prototxt: {said}"):
        upgrade.parse_net(f'input: "a" {fields}', "net.prototxt")


@pytest.mark.parametrize(
    "more",
    ["input_shape { dim: 1 }", "input_dim: 5", "input_dim: [1, 2, 3, 4]"],
)
def test_shapes_win_over_dims_and_surplus_is_ignored(more):
    """As in Caffe."""
    net, _ = _upgraded('input: "a" input_shape { dim: 7 dim: 8 } ' + more)
    assert [list(s.dim) for s in net.layer[0].input_param.shape] == [[7, 8]]


def test_surplus_dims_are_ignored():
    net, _ = _upgraded('input: "a" input_dim: [1, 2, 3, 4, 5]')
    assert [list(s.dim) for s in net.layer[0].input_param.shape] == [[1, 2, 3, 4]]


def test_batch_norm_statistics():
    text = (
        'layer { type: "BatchNorm" param { lr_mult: 1 name: "m" } param { } param { } }'
    )
    assert upgrade.needs_upgrade(_net(text))
    net, notes = _upgraded(text)
    zero = "lr_mult: 0 decay_mult: 0"
    assert net == _net(
        'layer { type: "BatchNorm" '
        f'param {{ name: "m" {zero} }} param {{ {zero} }} param {{ {zero} }} }}'
    )
    assert len(notes) == 1
    assert not upgrade.needs_upgrade(net)
    for other in (
        'layer { type: "BatchNorm" param { } param { } }',
        'layer { type: "Scale" param { } param { } param { } }',
        'layer { type: "BatchNorm" }',
    ):
        assert not upgrade.needs_upgrade(_net(other))


def test_old_transformations_in_new_layers_are_only_mentioned():
    """Caffe reads them nowhere, so taking them up would change the training."""
    text = 'layer { name: "d" type: "Data" data_param { scale: 0.5 mirror: true } }'
    net, notes = _upgraded(text)
    assert net == _net(text)
    assert notes == [
        (
            "net.prototxt: layer 'd': scale, mirror in data_param take no effect "
            "(nor in Caffe): move them to transform_param"
        )
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("SGD", "SGD"),
        ("NESTEROV", "Nesterov"),
        ("ADAGRAD", "AdaGrad"),
        ("RMSPROP", "RMSProp"),
        ("ADADELTA", "AdaDelta"),
        ("ADAM", "Adam"),
        ("1", "Nesterov"),
    ],
)
def test_solver_type(old, new):
    notes = []
    solver = upgrade.parse_solver(f"solver_type: {old} base_lr: 0.1", notes=notes)
    wanted = f'type: "{new}" base_lr: 0.1'
    assert solver == parse_prototxt(wanted, messages.SolverParameter)
    assert len(notes) == 1
    assert upgrade.upgrade_solver(solver) == []


def test_both_solver_types():
    with pytest.raises(ParseError, match=r"both 'solver_type: ADAM'.*'type: \"SGD\"'"):
        upgrade.parse_solver('solver_type: ADAM type: "SGD"')


def test_snapshot_prefix_of_a_solver(tmp_path):
    path = tmp_path / "lenet_solver.prototxt"
    for text, prefix in (
        ('net: "n"', tmp_path / "lenet_solver"),
        (f'snapshot_prefix: "{tmp_path}/snap"', tmp_path / "snap"),
        (f'snapshot_prefix: "{tmp_path}"', tmp_path / "lenet_solver"),
    ):
        path.write_text(text)
        notes = []
        assert upgrade.read_solver(path, notes).snapshot_prefix == str(prefix)
        assert len(notes) == (prefix.name == "lenet_solver")


def test_weights_of_caffe():
    net = upgrade.read_weights(GOLDEN / "solvers/resume_sgd.caffemodel")
    assert [len(layer.blobs) for layer in net.layer] == [0, 2, 0, 2, 0]


def test_old_weights(tmp_path):
    """Weights of V0 and V1 files come out in `layer`."""
    weights = np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)
    blob = messages.BlobProto(num=1, channels=1, height=2, width=2, data=range(4))
    v1, v0 = messages.NetParameter(name="v1"), messages.NetParameter(name="v0")
    v1.layers.add(name="ip", type=messages.V1LayerParameter.INNER_PRODUCT, blobs=[blob])
    old = v0.layers.add(bottom=["a"])
    old.layer.CopyFrom(messages.V0LayerParameter(name="ip", type="innerproduct"))
    old.layer.blobs.add().CopyFrom(blob)
    for net in (v0, v1):
        binary.write_binary(tmp_path / "w.caffemodel", net)
        (layer,) = upgrade.read_weights(tmp_path / "w.caffemodel").layer
        assert (layer.name, layer.type) == ("ip", "InnerProduct")
        np.testing.assert_array_equal(wire.blob_to_array(layer.blobs[0]), weights)


def test_weights_without_layers(tmp_path):
    binary.write_binary(tmp_path / "w", messages.NetParameter(name="empty"))
    with pytest.raises(ParseError, match=r"w: no layers in it"):
        upgrade.read_weights(tmp_path / "w")
