from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from poseidon_caffe import caffe
from poseidon_caffe.errors import ParseError, SolverError


def _feed(solver):
    rng = np.random.default_rng(0)
    for net in (solver.net, *solver.test_nets):
        net.blobs["data"].data[...] = rng.standard_normal((4, 2, 6, 7))
        net.blobs["label"].data[...] = [0, 1, 2, 0]
    return solver


@pytest.fixture
def solver(solver_file):
    return _feed(caffe.get_solver(solver_file))


def _weights(solver):
    return {
        f"{layer}/{i}": blob.data.copy()
        for layer, blobs in solver.net.params.items()
        for i, blob in enumerate(blobs)
    }


def _assert_equal(left, right):
    assert left.keys() == right.keys()
    for key, values in left.items():
        np.testing.assert_array_equal(values, right[key], err_msg=key)


@pytest.mark.parametrize(
    ("kind", "cls"),
    [
        ("SGD", caffe.SGDSolver),
        ("Nesterov", caffe.NesterovSolver),
        ("AdaGrad", caffe.AdaGradSolver),
        ("RMSProp", caffe.RMSPropSolver),
        ("AdaDelta", caffe.AdaDeltaSolver),
        ("Adam", caffe.AdamSolver),
    ],
)
def test_get_solver_goes_by_the_type(solver_file, kind, cls):
    momentum = "" if kind in {"AdaGrad", "RMSProp"} else "momentum: 0.9"
    Path(solver_file).write_text(
        f'net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" type: "{kind}" {momentum}'
    )
    solver = caffe.get_solver(solver_file)
    assert type(solver) is cls
    assert solver.param.type == kind
    _feed(solver)
    before = _weights(solver)
    solver.step(1)
    assert (before["ip/0"] != _weights(solver)["ip/0"]).any()


def test_a_class_of_its_own_type_overrides_the_file(solver_file):
    assert caffe.AdamSolver(solver_file).param.type == "Adam"


def test_what_it_is_made_of(solver):
    assert isinstance(solver, caffe.SGDSolver)
    assert solver.net is solver.net
    assert "accuracy" not in solver.net.blobs
    assert len(solver.test_nets) == 1
    assert "accuracy" in solver.test_nets[0].blobs
    assert solver.param.base_lr == pytest.approx(0.1)
    assert solver.iter == 0


def test_missing_files(solver_file, tmp_path):
    with pytest.raises(RuntimeError, match="missing"):
        caffe.SGDSolver(str(tmp_path / "missing"))
    (tmp_path / "net.prototxt").unlink()
    with pytest.raises(ParseError, match=r"net\.prototxt"):
        caffe.get_solver(solver_file)


def test_an_unknown_type(solver_file):
    Path(solver_file).write_text(
        'net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" type: "Adm"'
    )
    with pytest.raises(SolverError, match="Adm"):
        caffe.get_solver(solver_file)


def test_stepping_lowers_the_loss_and_the_rate(solver):
    assert solver.lr == pytest.approx(0.1)
    solver.step(1)
    first = float(solver.net.blobs["loss"].data)
    solver.step(4)
    assert solver.iter == 5
    assert float(solver.net.blobs["loss"].data) < first
    assert solver.lr == pytest.approx(0.1 * 0.5**2)


def test_test_nets_see_the_trained_weights(solver):
    solver.step(4)  # a test at iteration 3
    np.testing.assert_array_equal(
        solver.test_nets[0].params["conv"][0].data, solver.net.params["conv"][0].data
    )


def test_steps_in_parts_are_steps_in_one(solver, solver_file):
    other = _feed(caffe.get_solver(solver_file))
    _assert_equal(_weights(solver), _weights(other))  # random_seed
    solver.step(5)
    for _ in range(5):
        other.step(1)
    _assert_equal(_weights(solver), _weights(other))


def test_a_loop_of_ones_own_is_a_step(solver, solver_file):
    other = _feed(caffe.get_solver(solver_file))
    solver.step(1)
    other.net.clear_param_diffs()
    other.net.forward()
    other.net.backward()
    other.apply_update()
    _assert_equal(_weights(solver), _weights(other))
    assert other.iter == 0


def test_writing_parameters_between_steps(solver):
    solver.net.params["ip"][0].data[...] = 0
    solver.net.params["ip"][1].data[...] = 0
    solver.step(1)
    np.testing.assert_allclose(solver.net.blobs["loss"].data, np.log(3), rtol=1e-5)


@pytest.mark.parametrize("kind", ["BINARYPROTO", "HDF5"])
def test_snapshot_and_restore(solver, solver_file, tmp_path, kind):
    Path(solver_file).write_text(
        Path(solver_file).read_text() + f" snapshot_format: {kind}"
    )
    solver = _feed(caffe.get_solver(solver_file))
    suffix = ".h5" if kind == "HDF5" else ""
    solver.step(2)
    solver.snapshot()
    assert (tmp_path / f"snap_iter_2.caffemodel{suffix}").exists()
    solver.step(3)
    other = _feed(caffe.get_solver(solver_file))
    other.restore(f"snap_iter_2.solverstate{suffix}")
    assert other.iter == 2
    other.step(3)
    _assert_equal(_weights(solver), _weights(other))


def test_solve(solver, solver_file, tmp_path):
    solver.solve()
    assert solver.iter == 6
    assert (tmp_path / "snap_iter_6.solverstate").exists()
    other = _feed(caffe.get_solver(solver_file))
    other.step(3)
    other.snapshot()
    again = _feed(caffe.get_solver(solver_file))
    again.solve("snap_iter_3.solverstate")
    _assert_equal(_weights(solver), _weights(again))


def test_callbacks(solver):
    calls = []
    gradient = solver.net.params["ip"][1]

    def on_start():
        calls.append("start")

    def on_gradients_ready():
        calls.append("ready")
        assert gradient.diff.any()
        gradient.diff[...] = 0

    before = gradient.data.copy()
    solver.add_callback(on_start, on_gradients_ready)
    solver.step(2)
    assert calls == ["start", "ready"] * 2
    # What the callback wrote into the gradient is what the update used.
    np.testing.assert_array_equal(gradient.data, before)


def test_share_weights(solver, net_file):
    net = caffe.Net(net_file, caffe.TEST)
    solver.share_weights(net)
    solver.step(1)
    np.testing.assert_array_equal(
        net.params["conv"][0].data, solver.net.params["conv"][0].data
    )


def test_it_logs_like_caffe(solver_file, capsys):
    caffe.init_log(0)
    _feed(caffe.get_solver(solver_file)).solve()
    log = capsys.readouterr().err
    for line in (
        r"\] Solving small$",
        r"\] Iteration 0, Testing net \(#0\)$",
        r"\]     Test net output #0: accuracy = \S+$",
        r"\]     Test net output #1: loss = \S+ \(\* 2 = \S+ loss\)$",
        r"\] Iteration 2 \(\S+ iter/s, \S+s/2 iters\), loss = \S+$",
        r"\] Iteration 2, lr = 0\.05$",
        r"\] Optimization Done\.$",
    ):
        assert re.search(line, log, re.MULTILINE), line


def test_only_the_first_of_several_solvers_logs(solver_file, capsys):
    caffe.init_log(0)
    caffe.set_solver_rank(1)
    try:
        caffe.get_solver(solver_file)
    finally:
        caffe.set_solver_rank(0)
    assert capsys.readouterr().err == ""


def test_the_seed_of_the_script_counts_without_random_seed(solver_file):
    text = Path(solver_file).read_text().replace("random_seed: 7", "")
    Path(solver_file).write_text(text)
    made = []
    for _ in range(2):
        caffe.set_random_seed(11)
        made.append(_weights(caffe.get_solver(solver_file)))
    _assert_equal(*made)
    other = _weights(caffe.get_solver(solver_file))
    assert (other["conv/0"] != made[0]["conv/0"]).any()
