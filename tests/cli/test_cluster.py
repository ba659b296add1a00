"""``mpirun -n N poseidon train`` for real: the log, refusals, errors told once."""

from __future__ import annotations

import os
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from poseidon_caffe.schema.upgrade import read_weights
from tests.cli.program import FATAL, Workspace
from tests.comm.launch import Done, Job, mpirun, start
from tests.report import log_parsers

pytestmark = pytest.mark.mpi

RANKS = Path(__file__).parent / "ranks.py"
TIMEOUT_S = 120


def train(space: Workspace, n: int, *argv: str) -> Done:
    """``mpirun -n N`` over `RANKS` in the workspace."""
    return mpirun(n, RANKS, *argv, cwd=space.folder, timeout_s=TIMEOUT_S)


def errors(done: Done) -> list[str]:
    """What the ranks' FATAL lines say."""
    found = [FATAL.match(line) for line in done.stderr.splitlines()]
    return [match[1] for match in found if match]


def refusal(space: Workspace, n: int, *argv: str) -> str:
    """The one error of a job that does not start."""
    done = train(space, n, *argv)
    assert done.rc == 1, done.said
    told = errors(done)
    assert len(told) == 1, done.said
    assert "Traceback" not in done.stderr, done.said
    assert "Iteration 0" not in done.stderr, done.said
    return told[0]


def apart(space: Workspace, n: int) -> list[Path]:
    """A folder for each rank, with copies of both prototxts."""
    folders = [space.folder / f"rank{rank}" for rank in range(n)]
    for folder in folders:
        folder.mkdir()
        for name in ("solver.prototxt", "net.prototxt"):
            shutil.copy(space.folder / name, folder)
    return folders


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def weights(path: Path) -> list[np.ndarray]:
    net = read_weights(str(path))
    return [np.array(blob.data) for layer in net.layer for blob in layer.blobs]


def train_alone(space: Workspace, folder: Path) -> str:
    """Train in one process with twice the batch; compare the weights; its log."""
    alone = Workspace(folder, space.data, space.net, space.solver)
    alone.net = space.net.replace("batch_size: 32", "batch_size: 64")
    alone.write()
    done = alone.train()
    assert done.returncode == 0, done.stderr
    pairs = zip(
        weights(space.folder / "out_iter_20.caffemodel"),
        weights(folder / "out_iter_20.caffemodel"),
        strict=True,
    )
    for mine, theirs in pairs:
        np.testing.assert_allclose(mine, theirs, atol=2e-4 * np.abs(theirs).max())
    return done.stderr


@pytest.fixture
def short(workspace):
    """A workspace that trains for 20 iterations."""
    workspace.solver |= {
        "max_iter": "20",
        "display": "10",
        "test_interval": "10",
        "snapshot": "10",
    }
    workspace.write()
    return workspace


def test_two_ranks_train_what_one_does_with_both_batches(
    short, tmp_path_factory, digits
):
    done = train(short, 2, f"--log_dir={short.folder}")
    assert done.rc == 0, done.said
    log = done.stderr
    assert "] Effective batch: 2 workers x 32 x iter_size 1 = 64\n" in log
    assert re.search(r"\] ip1: (rows|factors), ", log), log
    for text in ("Solving Digits", "Iteration 10, lr = 0.1", "Optimization Done."):
        assert log.count(f"] {text}") == 1 + (text == "Optimization Done."), text
    table = log_parsers.parse_log_py(log)
    assert sorted(table.train) == [0, 10]
    assert sorted(table.test) == [0, 10, 20]

    whole = train_alone(short, tmp_path_factory.mktemp("alone"))
    expected = log_parsers.parse_log_py(whole)
    for iteration, scores in expected.test.items():
        assert table.test[iteration]["loss"] == pytest.approx(scores["loss"], rel=1e-4)
        assert table.test[iteration]["accuracy"] == scores["accuracy"]
    for iteration, scores in expected.train.items():
        assert table.train[iteration]["loss"] == pytest.approx(scores["loss"], rel=1e-4)

    # Each rank has its own files; that of rank 0 has the usual name.
    files = {path.name: path for path in short.folder.glob("poseidon.*.log.INFO.*")}
    (first,) = [p for name, p in files.items() if not name.startswith("poseidon.rank")]
    (second,) = [p for name, p in files.items() if name.startswith("poseidon.rank1.")]
    assert "Effective batch" in first.read_text()
    assert "Solving Digits" in second.read_text()


def test_batch_norm_over_all_workers(short, tmp_path_factory):
    short.net += """
    layer { name: "bn" type: "BatchNorm" bottom: "ip1" top: "bn" }
    layer { name: "ip3" type: "InnerProduct" bottom: "bn" top: "ip3"
      inner_product_param { num_output: 10 weight_filler { type: "xavier" } } }
    layer { name: "loss3" type: "SoftmaxWithLoss" bottom: "ip3" bottom: "label" }
    """
    short.write(test_iter="", test_interval="", base_lr="0.01")
    short.solver |= {"test_iter": "", "test_interval": "", "base_lr": "0.01"}
    done = train(short, 2, "--sync_batch_norm", "--overlap=off")
    assert done.rc == 0, done.said
    train_alone(short, tmp_path_factory.mktemp("alone"))


def test_a_dedicated_server_and_another_number_of_ranks_go_on(short):
    short.write(max_iter="10")
    done = train(short, 3, "--servers=1", "--svb=off")
    assert done.rc == 0, done.said
    assert "Effective batch: 2 workers x 32" in done.stderr
    short.write()
    done = train(short, 2, "--resume=auto", "--scaling=strong", "--svb=on")
    assert done.rc == 0, done.said
    assert "Resuming from out_iter_10.solverstate" in done.stderr
    assert "Effective batch: 2 workers x 16 x iter_size 1 = 32" in done.stderr
    assert "out_iter_20.caffemodel" in short.files()
    assert done.stderr.count("] Resuming from") == 1


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--staleness=-1"], "--staleness: expected 0 or more"),
        (["--servers=2"], "--servers 2 of 2 ranks leaves nobody to train"),
        (["--solver=none.prototxt"], "none.prototxt: no such prototxt"),
        (["--weights=none.caffemodel"], "none.caffemodel"),
    ],
)
def test_what_all_ranks_meet_is_told_once(short, argv, said):
    assert said in refusal(short, 2, *argv)


def test_settings_that_exclude_flags(short):
    short.write(clip_gradients="3")
    assert "clip_gradients: 3" in refusal(short, 2, "--staleness=1")


def test_batches_that_cannot_be_divided(short):
    said = refusal(short, 3, "--scaling=strong")
    assert 'layer "digits"' in said
    assert "32" in said


def test_a_prefix_that_cannot_be_written(short):
    short.write(snapshot_prefix='"nowhere/out"')
    assert 'snapshot_prefix: "nowhere/out"' in refusal(short, 2)
    short.write(snapshot_prefix='"nowhere/out"', snapshot="0")
    assert 'snapshot_prefix: "nowhere/out"' in refusal(short, 2)


def test_a_file_that_one_rank_lacks(short):
    (_, folder) = apart(short, 2)
    (folder / "solver.prototxt").unlink()
    said = refusal(short, 2)
    assert re.match(r"rank 1 \(host \S+\): solver.prototxt: no such prototxt", said)


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("solver.prototxt", "base_lr: 0.1", "base_lr: 0.2", "base_lr is 0.2 in its"),
        ("net.prototxt", "num_output: 16", "num_output: 8", "num_output is 8 in its"),
        ("flags", "", "--check_replicas=7", "--check_replicas is 7, 1000 on rank 0"),
    ],
)
def test_ranks_that_differ(short, file, old, new, said):
    (_, folder) = apart(short, 2)
    if old:
        edit(folder / file, old, new)
    else:
        (folder / file).write_text(new)
    told = refusal(short, 2)
    assert told.startswith("rank 1 (host ")
    assert said in told
    assert "on rank 0" in told


def test_copies_of_unequal_size(short, digits):
    (_, folder) = apart(short, 2)
    for path in (folder.parent / "rank0", folder):
        shutil.copytree(digits / "digits_train_lmdb", path / "train")
        shutil.copytree(digits / "digits_test_lmdb", path / "test")
        edit(path / "net.prototxt", f"{digits}/digits_train_lmdb", "train")
        edit(path / "net.prototxt", f"{digits}/digits_test_lmdb", "test")
    shutil.rmtree(folder / "train")
    shutil.copytree(digits / "digits_test_lmdb", folder / "train")
    said = refusal(short, 2)
    assert re.search(r"layer digits of the train net has \d+ records, \d+ on", said)


def test_numbers_that_go_bad_on_all_ranks_are_told_once(short):
    short.write(base_lr="1e30", test_interval="", test_iter="")
    done = train(short, 2)
    assert done.rc != 0, done.said
    (said,) = errors(done)
    assert "loss" in said


@pytest.fixture
def running(workspace):
    """A long training on two ranks, with a third that serves."""
    workspace.write(max_iter="1000000", display="10", snapshot="", test_interval="1000")
    with start(3, RANKS, "--servers=1", cwd=workspace.folder) as job:
        job.wait_for("Iteration 10 (", timeout_s=TIMEOUT_S)
        yield job


def test_mpiruns_own_signals_ask_for_snapshots_and_the_end(running: Job, workspace):
    running.process.send_signal(signal.SIGUSR2)
    running.wait_for("Snapshotting solver state", timeout_s=TIMEOUT_S)
    running.process.send_signal(signal.SIGUSR1)
    done = running.finish(timeout_s=TIMEOUT_S)
    assert done.rc == 0, done.said
    assert "] Optimization stopped early." in done.stderr
    states = [name for name in workspace.files() if name.endswith(".solverstate")]
    assert len(states) == 2


def test_a_signal_to_one_rank_counts_for_all(running: Job):
    os.kill(running.ranks()[1], signal.SIGINT)
    done = running.finish(timeout_s=TIMEOUT_S)
    assert done.rc == 0, done.said
    assert "] Optimization stopped early." in done.stderr
