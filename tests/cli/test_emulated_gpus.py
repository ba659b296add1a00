"""Commands with ``--gpu``, on the emulator: the numbers are those of the CPU."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from poseidon_caffe.data.datum import decode, parse_datum
from poseidon_caffe.data.db import open_db
from poseidon_caffe.schema.upgrade import read_weights
from tests.cli.image_nets import save_net, words_for
from tests.cli.program import PROGRAM, Workspace, poseidon
from tests.comm.launch import mpirun

EMULATED = {"POSEIDON_GPU": "emulated", "POSEIDON_EMULATED_GPUS": "2"}
NAME = "Poseidon's emulator"


def lines(stderr: str) -> list[str]:
    return [line.split("] ", 1)[-1] for line in stderr.splitlines()]


def weights(path: Path) -> list[np.ndarray]:
    net = read_weights(str(path))
    return [np.array(blob.data) for layer in net.layer for blob in layer.blobs]


def assert_close(mine: Path, theirs: Path) -> None:
    for a, b in zip(weights(mine), weights(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3 * np.abs(b).max())


def scores(stderr: str) -> list[float]:
    return [float(x) for x in re.findall(r"] (?:accuracy|loss) = ([\d.e-]+)", stderr)]


@pytest.fixture
def short(workspace):
    """A workspace that trains for ten iterations."""
    workspace.solver |= {"max_iter": "10", "display": "5", "test_interval": "5"}
    workspace.write()
    return workspace


@pytest.fixture
def on_cpu(tmp_path_factory, digits):
    """The weights of the same ten iterations on the CPU; with twice the batch if so."""

    def train(batch: int = 32) -> Path:
        space = Workspace(tmp_path_factory.mktemp("cpu"), digits)
        space.net = space.net.replace("batch_size: 32", f"batch_size: {batch}")
        space.write(max_iter="10", display="5", test_interval="5")
        done = space.train()
        assert done.returncode == 0, done.stderr
        return space.folder / "out_iter_10.caffemodel"

    return train


def test_train_on_one(short, on_cpu):
    done = short.train("--gpu", "1", **EMULATED)
    assert done.returncode == 0, done.stderr
    said = lines(done.stderr)
    assert said[:2] == ["Using GPUs 1", f"GPU 1: {NAME}"]
    assert "Use CPU." not in said
    assert "device_id: 1" in said
    assert_close(short.folder / "out_iter_10.caffemodel", on_cpu())


def test_the_solver_asks_for_it(short):
    short.write(max_iter="1", solver_mode="GPU")
    done = short.train(**EMULATED)
    assert done.returncode == 0, done.stderr
    assert lines(done.stderr)[0] == "Using GPUs 0"


def test_test_and_time(trained):
    space, _ = trained
    argv = ["test", "--model=net.prototxt", "--weights=out_iter_100.caffemodel"]
    argv += ["--iterations=2"]
    on_gpu = space.run(*argv, "--gpu=0,1", **EMULATED)
    assert on_gpu.returncode == 0, on_gpu.stderr
    assert lines(on_gpu.stderr)[:3] == [
        "Not using GPU #1 for single-GPU function",
        "Use GPU with device ID 0",
        f"GPU device name: {NAME}",
    ]
    expected = scores(space.run(*argv).stderr)
    assert len(expected) == 2
    np.testing.assert_allclose(scores(on_gpu.stderr), expected, rtol=1e-3)
    timed = space.run(
        "time", "--model=net.prototxt", "--iterations=2", "--gpu=1", **EMULATED
    )
    assert timed.returncode == 0, timed.stderr
    assert lines(timed.stderr)[0] == "Use GPU with device ID 1"
    assert "Average Forward-Backward: " in timed.stderr


def features(path: Path) -> np.ndarray:
    database = open_db(str(path), "lmdb")
    found = [decode(parse_datum(database.record(i))) for i in range(len(database))]
    database.close()
    return np.array(found)


def test_extract_features(trained):
    space, _ = trained
    words = ["out_iter_100.caffemodel", "net.prototxt", "ip1,ip2"]
    for where, datasets in (("GPU", "g1,g2"), ("CPU", "c1,c2")):
        done = space.run(
            "extract_features", *words, datasets, "1", "lmdb", where, "1", **EMULATED
        )
        assert done.returncode == 0, done.stderr
        assert ("] Using Device_id=1" in done.stderr) == (where == "GPU")
    for name in "12":
        mine, theirs = (features(space.folder / f"{x}{name}") for x in "gc")
        np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-4)


def test_classify(tmp_path, golden):
    words = words_for(save_net(tmp_path))
    photo = str(golden / "data" / "images" / "img_01.jpg")
    found = []
    for flags in (["--gpu"], []):
        target = str(tmp_path / f"out{len(found)}.npy")
        done = poseidon(
            *("classify", *words, "--images_dim=14,13", "--mean_file=", photo, target),
            *flags,
            **EMULATED,
        )
        assert done.returncode == 0, done.stderr
        assert lines(done.stderr)[0] == ("GPU mode" if flags else "CPU mode")
        found.append(np.load(target))
    np.testing.assert_allclose(*found, rtol=1e-3)


@pytest.mark.mpi
def test_caffes_command_for_several(short, on_cpu):
    done = short.train("--gpu", "all", **EMULATED)
    assert done.returncode == 0, done.stderr
    said = lines(done.stderr)
    assert said[0].startswith("Starting 2 ranks, one for each of the GPUs 0, 1, with ")
    assert said[1:4] == ["Using GPUs 0, 1", f"GPU 0: {NAME}", f"GPU 1: {NAME}"]
    assert "Effective batch: 2 workers x 32 x iter_size 1 = 64" in said
    assert "share" not in done.stderr
    assert_close(short.folder / "out_iter_10.caffemodel", on_cpu(64))


@pytest.mark.mpi
def test_ranks_of_mpirun_that_share_one(short, on_cpu):
    args = ("train", "--solver=solver.prototxt", "--gpu=1")
    done = mpirun(2, *PROGRAM[1:], *args, env=EMULATED, cwd=short.folder, timeout_s=120)
    assert done.rc == 0, done.said
    said = lines(done.stderr)
    assert said[:2] == ["Using GPUs 1", f"GPU 1: {NAME}"]
    assert said[2].startswith("2 ranks on this machine share 1 GPU")
    assert_close(short.folder / "out_iter_10.caffemodel", on_cpu(64))


@pytest.mark.mpi
def test_servers_begin_and_the_gpus_go_on_themselves(short, on_cpu):
    short.write(snapshot="5")
    done = short.train("--gpu", "all", **EMULATED)
    assert done.returncode == 0, done.stderr
    (short.folder / "out_iter_10.caffemodel").unlink()
    state = "--snapshot=out_iter_5.solverstate"
    done = short.train("--gpu", "all", "--nccl=on", state, **EMULATED)
    assert done.returncode == 0, done.stderr
    assert "combine gradients by NCCL; every rank updates itself" in done.stderr
    assert_close(short.folder / "out_iter_10.caffemodel", on_cpu(64))


@pytest.mark.mpi
def test_nccl_needs_a_gpu_for_each(short):
    args = ("train", "--solver=solver.prototxt", "--gpu=1", "--nccl=on")
    done = mpirun(2, *PROGRAM[1:], *args, env=EMULATED, cwd=short.folder)
    assert done.rc
    assert done.stderr.count("--nccl on: some ranks share a GPU; leave") == 1
