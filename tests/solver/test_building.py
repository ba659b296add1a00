"""Which nets a solver builds, and what it refuses."""

from __future__ import annotations

import pytest

from poseidon_caffe.backend.select import get_ops
from poseidon_caffe.errors import ParseError, SolverError
from poseidon_caffe.net.net import NetOptions
from poseidon_caffe.schema.messages import NetParameter
from poseidon_caffe.schema.text import parse_prototxt
from poseidon_caffe.schema.upgrade import parse_net
from poseidon_caffe.solver.events import NetBuilt, NetCreating, Noted, Warned
from poseidon_caffe.solver.solver import Solver, SolverOptions
from poseidon_caffe.types import Phase
from tests.solver.support import INPUT_NET, Recorder, make_param, make_solver

STAGED = (
    INPUT_NET
    + """
layer { name: "a" type: "Silence" bottom: "data"
  include { phase: TRAIN stage: "x" } }
layer { name: "b" type: "Silence" bottom: "data"
  include { phase: TEST stage: "x" } }
layer { name: "c" type: "Silence" bottom: "data" include { min_level: 2 } }
"""
)
TESTED = "test_interval: 5 "


def build(text, net=INPUT_NET, **options):
    recorder = Recorder()
    return make_solver(text, net, events=[recorder], **options), recorder


def test_one_net_for_both_phases():
    solver, recorder = build(TESTED + "test_iter: 2")
    assert solver.net.phase == Phase.TRAIN
    assert [net.phase for net in solver.test_nets] == [Phase.TEST]
    assert [e.source for e in recorder.of(NetCreating)] == [
        "specified in net_param",
        "specified by net_param",
    ]
    assert [e.net for e in recorder.of(NetBuilt)] == [solver.net, *solver.test_nets]


def test_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.prototxt", "b.prototxt"):
        (tmp_path / name).write_text(INPUT_NET.replace("tiny", name))
    text = TESTED + 'train_net: "a.prototxt" test_net: "b.prototxt" test_iter: 1'
    solver, recorder = build(text, None)
    assert (solver.net.name, solver.test_nets[0].name) == ("a.prototxt", "b.prototxt")
    assert [e.source for e in recorder.of(NetCreating)] == [
        "from train_net file: a.prototxt",
        "specified by test_net file: b.prototxt",
    ]


def test_net_beside_the_solver_is_found(tmp_path):
    (tmp_path / "n.prototxt").write_text(INPUT_NET)
    param = make_param('net: "n.prototxt"', None)
    path = str(tmp_path / "solver.prototxt")
    assert Solver(param, ops=get_ops("reference"), path=path).net.name == "tiny"
    with pytest.raises(ParseError, match=r"n\.prototxt: no such"):
        Solver(param, ops=get_ops("reference"))


def test_several_test_nets_in_caffes_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.prototxt").write_text(INPUT_NET.replace("tiny", "file"))
    param = make_param(TESTED + 'test_net: "file.prototxt" test_iter: [1, 1, 1, 1]')
    param.test_net_param.add().CopyFrom(parse_net(INPUT_NET.replace("tiny", "own")))
    solver = Solver(param, ops=get_ops("reference"))
    assert [net.name for net in solver.test_nets] == ["own", "file", "tiny", "tiny"]


def test_states_choose_layers():
    text = (
        TESTED + 'test_iter: [1, 1] train_state { stage: "x" level: 2 } '
        'test_state { stage: "x" } test_state { level: 3 }'
    )
    solver, _ = build(text, STAGED)

    def chosen(net):
        return [name for name in net.layer_names if len(name) == 1]

    assert chosen(solver.net) == ["a", "c"]
    assert [chosen(net) for net in solver.test_nets] == [["b"], ["c"]]


def test_the_nets_own_state_counts():
    solver, _ = build("", STAGED + 'state { stage: "x" }')
    assert "a" in solver.net.layer_names


def test_old_formats_are_upgraded_and_noted():
    old = """name: "old" input: "data" input_dim: 1 input_dim: 2 input_dim: 3
      input_dim: 4 layers { name: "s" type: SILENCE bottom: "data" }"""

    param, recorder = make_param("", None), Recorder()
    param.net_param.CopyFrom(parse_prototxt(old, NetParameter))
    solver = Solver(param, ops=get_ops("reference"), events=[recorder])
    assert [layer.type for layer in solver.net.layers] == ["Input", "Silence"]
    assert recorder.of(Noted)


def test_debug_info_keeps_every_blob():
    options = SolverOptions(net=NetOptions(fuse=True, share_memory=True))
    for text, fast in (("", True), ("debug_info: true", False)):
        solver = Solver(make_param(text), ops=get_ops("reference"), options=options)
        assert solver.net.options.fuse == fast
        assert solver.net.options.share_memory == fast


@pytest.mark.parametrize(
    ("text", "net", "said"),
    [
        ("", None, "must name a train net in one of the fields net, net_param"),
        ('net: "x"', INPUT_NET, "names a train net in net_param and net; keep one"),
        ('train_net: "x"', INPUT_NET, "train_net and net_param"),
        ("test_iter: 1", INPUT_NET, "test_interval: 0 must be above 0"),
        (TESTED + "test_iter: -1", INPUT_NET, "test_iter #0: -1 must be at least 0"),
        (
            TESTED + 'test_iter: 1 test_net: "a" test_net: "b"',
            INPUT_NET,
            "test_iter must be given once for each test net: at least 2 .* not 1",
        ),
        (
            TESTED + "test_iter: 1 test_state {} test_state {}",
            INPUT_NET,
            "test_state .* once per test net: 1 times, not 2",
        ),
    ],
)
def test_contradictions_are_refused(text, net, said):
    with pytest.raises(SolverError, match=said):
        build(text, net)


def test_a_net_without_layers_is_refused(tmp_path, monkeypatch):
    """An empty file would else train for ever, and well."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.prototxt").write_text("")
    with pytest.raises(SolverError, match=r"a.prototxt: no layers for phase TRAIN"):
        build('train_net: "a.prototxt"', None)
    only_test = INPUT_NET.replace("layer {", "layer { include { phase: TEST }")
    with pytest.raises(SolverError, match=r"TRAIN \(the net has \d in all"):
        build("", only_test)


def test_test_iter_without_any_test_net(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.prototxt").write_text(INPUT_NET)
    with pytest.raises(SolverError, match=r"each test net: 0 .* not 1"):
        build(TESTED + 'train_net: "a.prototxt" test_iter: 1', None)


def test_fields_of_forks_that_do_nothing_are_told():
    recorder = Recorder()
    net = INPUT_NET.replace('name: "ip1" type', 'engine: "MKL2017" name: "ip1" type')
    make_solver("", net, events=[recorder])
    (warned,) = recorder.of(Warned)
    assert "without effect here: engine" in warned.message
