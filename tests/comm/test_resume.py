"""Snapshots of a cluster: resumed by as many workers exactly, by any number rightly."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from poseidon_caffe.schema.upgrade import read_weights
from poseidon_caffe.solver.state_file import read_state_file
from tests.comm.launch import mpirun
from tests.comm.trials import NETS, distance, make_records

pytestmark = pytest.mark.mpi

BATCH = 12
# With --scaling strong every number of workers trains with this batch together.
DATA = """
layer {{ name: "data" type: "Data" top: "data" top: "label"
  transform_param {{ {transform} scale: 0.0078125 mean_value: 128 }}
  data_param {{ source: "{source}" backend: LMDB batch_size: 12 }} }}
"""
DROPOUT = """
layer { name: "drop" type: "Dropout" bottom: "ip1" top: "ip1" }
layer { name: "ip2" """
SOLVER = """
net: "net.prototxt" snapshot: 10 snapshot_prefix: "out" max_iter: 20 random_seed: 3
lr_policy: "step" stepsize: 6 gamma: 0.8 weight_decay: 0.001 average_loss: 4 display: 5
"""
SGD = 'type: "SGD" base_lr: 0.02 momentum: 0.9'
ADAM = 'type: "Adam" base_lr: 0.002 momentum: 0.9 momentum2: 0.99'


@dataclass
class Space:
    """A folder with a solver and its net.

    Args:
        folder: is made.
        records: an LMDB.
        is_random: whether the net draws random numbers.
        solver: text for its prototxt.
    """

    folder: Path
    records: Path
    is_random: bool = False
    solver: str = SGD

    def __post_init__(self):
        self.folder.mkdir()
        # 8x8 pixels, of which 7x7 are left where they are drawn.
        transform = "crop_size: 7 mirror: true" if self.is_random else ""
        net = DATA.format(source=self.records, transform=transform) + NETS["plain"]
        if self.is_random:
            net = net.replace('layer { name: "ip2" ', DROPOUT)
        (self.folder / "net.prototxt").write_text(f'name: "resumed" {net}')
        (self.folder / "solver.prototxt").write_text(SOLVER + self.solver)

    def train(self, ranks, *flags):
        argv = ("-m", "poseidon_caffe", "train", "--solver=solver.prototxt")
        done = mpirun(
            ranks, *argv, "--scaling=strong", "--row_kib=1", *flags,
            cwd=self.folder, timeout_s=120,
        )  # fmt: skip
        assert done.rc == 0, done.said
        return done

    def resumed(self, name, ranks, *flags):
        """Another space, which goes on from this one's snapshot of iteration 10."""
        other = Space(
            self.folder.with_name(name), self.records, self.is_random, self.solver
        )
        for path in self.folder.glob("out_iter_10.*"):
            shutil.copy(path, other.folder)
        done = other.train(ranks, "--resume=auto", *flags)
        assert done.stderr.count("] Resuming from out_iter_10.solverstate") == 1
        return other, done

    def files(self, iteration):
        """Weights and solver state, byte by byte."""
        names = (f"out_iter_{iteration}.{e}" for e in ("caffemodel", "solverstate"))
        return {name: (self.folder / name).read_bytes() for name in names}

    def arrays(self, iteration):
        """Parameters, then histories."""
        path = self.folder / f"out_iter_{iteration}"
        weights = read_weights(f"{path}.caffemodel")
        found = [np.array(b.data) for layer in weights.layer for b in layer.blobs]
        state = read_state_file(path.with_suffix(".solverstate"))
        assert state.iteration == iteration
        return found + [np.array(each).reshape(-1) for each in state.history]


def assert_alike(found, expected):
    assert len(found) == len(expected)
    off = [distance(a, b) for a, b in zip(found, expected, strict=True)]
    assert max(off) < 2e-4, off


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return make_records(tmp_path_factory.mktemp("records"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("spaces")


@pytest.fixture(scope="module")
def one(folder, records):
    """Trained by one process, unbroken."""
    space = Space(folder / "one", records)
    space.train(1)
    return space


@pytest.fixture(scope="module")
def two(folder, records):
    """Trained by two workers, unbroken; inner products by factors and by rows."""
    space = Space(folder / "two", records)
    log = space.train(2, "--bandwidth_mbps=1000").stderr
    assert "ip1: factors" in log
    assert "ip2: rows" in log
    return space


def test_a_snapshot_of_two_is_that_of_one(one, two):
    """The histories of all rows, wherever they are kept, are in it."""
    expected = one.arrays(10)
    assert_alike(two.arrays(10), expected)
    assert all(array.any() for array in expected)
    assert_alike(two.arrays(20), one.arrays(20))


@pytest.mark.parametrize(
    ("workers", "flags", "solver"),
    [
        (2, (), SGD),
        (2, ("--servers=2", "--svb=off"), ADAM),
        pytest.param(3, ("--svb=on",), ADAM, marks=pytest.mark.slow),
    ],
)
def test_as_many_workers_go_on_bit_for_bit(tmp_path, records, workers, flags, solver):
    """With records drawn at random and Dropout: each worker has its own numbers."""
    space = Space(tmp_path / "whole", records, is_random=True, solver=solver)
    ranks = workers + 2 * ("--servers=2" in flags)
    space.train(ranks, *flags)
    again, done = space.resumed("again", ranks, *flags)
    assert again.files(20) == space.files(20)
    assert "written by" not in done.stderr
    assert space.files(20)["out_iter_20.solverstate"]


@pytest.mark.parametrize("ranks", [1, 3])
def test_another_number_of_workers_goes_on(one, two, ranks):
    again, done = two.resumed(f"two-by-{ranks}", ranks)
    assert f"written by 2 workers, now {ranks}: data go on" in done.stderr
    assert_alike(again.arrays(20), one.arrays(20))


def test_a_snapshot_of_one_process_goes_on_with_two_and_a_server(one):
    again, done = one.resumed("one-by-2", 3, "--servers=1")
    assert "written by 1 worker, now 2: data go on" in done.stderr
    assert_alike(again.arrays(20), one.arrays(20))


@pytest.mark.slow
def test_stale_workers_snapshot_and_go_on(tmp_path, records):
    """Not reproducible to the bit, but whole: all updates of ten iterations."""
    space = Space(tmp_path / "stale", records, is_random=True)
    space.train(3, "--staleness=2")
    _, done = space.resumed("again", 3, "--staleness=2")
    assert "written by" not in done.stderr
    again, done = space.resumed("alone", 1)
    assert "written by 3 workers, now 1" in done.stderr
    assert all(np.isfinite(array).all() for array in again.arrays(20))
