"""A rank fails under the real mpirun: the job ends in time and says why."""

from __future__ import annotations

import os
import re
import signal
import time

import pytest

from tests.comm.launch import RANKS, start

pytestmark = pytest.mark.mpi

TIMEOUT_S = 5.0
PROGRAM = RANKS / "fail_worker.py"


def run(how, culprit, *, n=3, extra=()):
    """The job, the culprit's process number, seconds from the failure to the end."""
    with start(n, PROGRAM, how, str(culprit), str(TIMEOUT_S), extra=extra) as job:
        job.wait_for("failing now")
        since = time.monotonic()
        done = job.finish(timeout_s=60)
        took_s = time.monotonic() - since
    found = re.search(rf"rank {culprit} is pid (\d+)", done.stdout)
    assert found, done.said
    return done, int(found[1]), took_s


def check(done, took_s, *lines):
    """It ended by itself, in time, and said one of ``lines`` (regular expressions)."""
    assert done.rc not in {0, 124}, done.said
    assert took_s < TIMEOUT_S + 1, done.said
    assert any(re.search(line, done.stderr) for line in lines), done.said


@pytest.mark.parametrize(
    ("how", "culprit"),
    [("kill", 2), ("kill", 0), ("_exit0", 2), ("_exit1", 1), ("segv", 2), ("term", 1)],
)
def test_a_rank_that_is_gone(how, culprit):
    done, pid, took_s = run(how, culprit)
    check(
        done,
        took_s,
        rf"rank [^{culprit}].*: rank {culprit} \(host \S+, pid {pid}\) has died",
    )
    assert took_s < 3, "nobody has to wait for the timeout"


@pytest.mark.parametrize("how", ["raise", "exit"])
def test_a_rank_that_breaks_by_itself(how):
    done, pid, took_s = run(how, 1)
    reason = "DataError: record 7 is damaged" if how == "raise" else r"sys\.exit\(3\)"
    check(done, took_s, rf"rank 1 on \S+ \(pid {pid}\): .*{reason}")
    assert took_s < 3
    # The others, if they still can speak, blame nobody else.
    assert not re.search(
        r"rank [02] \(host \S+ pid \d+\) (has|have|was|is) ", done.stderr
    )


def test_a_stopped_rank():
    done, pid, took_s = run("stop", 2)
    culprit = rf"rank 2 \(host \S+, pid {pid}\)"
    check(
        done,
        took_s,
        rf"rank [01] on .*: ClusterError: {culprit} is stopped \(SIGSTOP\)",
    )
    assert re.search(rf"rank 0: {culprit} is stopped", done.stderr), done.said
    assert took_s > TIMEOUT_S / 2, "it could have been continued"


def test_a_stop_in_time_continued():
    with start(3, PROGRAM, "none", "0", str(TIMEOUT_S)) as job:
        job.wait_for("rank 1 is pid")
        pid = int(re.search(r"rank 1 is pid (\d+)", job.stdout())[1])
        os.kill(pid, signal.SIGSTOP)
        time.sleep(TIMEOUT_S / 2)
        os.kill(pid, signal.SIGCONT)
        done = job.finish(timeout_s=60)
    assert done.rc == 0, done.said
    assert done.stdout.count("done") == 3


def test_a_whole_job_stopped_and_continued_does_not_blame_itself():
    with start(3, PROGRAM, "none", "0", "3") as job:
        job.wait_for("rank 2 is pid")
        pids = re.findall(r"is pid (\d+)", job.stdout())
        for pid in pids:
            os.kill(int(pid), signal.SIGSTOP)
        time.sleep(4)
        for pid in pids:
            os.kill(int(pid), signal.SIGCONT)
        done = job.finish(timeout_s=60)
    assert done.rc == 0, done.said


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("hang", "is alive but has been in iteration 5, layer data, for"),
        ("lock", "has been silent for .* its process lives"),
    ],
)
def test_a_rank_that_hangs(how, reason):
    done, pid, took_s = run(how, 2)
    check(done, took_s, rf"rank 2 \(host \S+, pid {pid}\) {reason}")
    blamed = re.findall(r"ClusterError: rank (\d)", done.stderr)
    assert set(blamed) == {"2"}, done.said


def test_a_slow_rank_is_told_of_and_borne():
    done, pid, _ = run("nap", 2)
    assert done.rc == 0, done.said
    assert re.search(rf"has waited .*: rank 2 \(host \S+, pid {pid}\)", done.stderr)


def test_a_job_in_which_nothing_happens_ends_in_peace():
    done, *_ = run("none", 1, n=4)
    assert done.rc == 0, done.said
    assert done.stdout.count("done") == 4
    assert "ended by" not in done.stderr


def test_death_is_found_where_mpirun_does_not_end_the_others():
    argv = ("kill", "2", str(TIMEOUT_S))
    with start(3, PROGRAM, *argv, extra=("--with-ft", "ulfm")) as job:
        job.wait_for("has died")
        pid = re.search(r"rank 2 is pid (\d+)", job.stdout())[1]
        # This mpirun does not always end by itself after that; the ranks have to.
        end = time.monotonic() + TIMEOUT_S
        while job.process.poll() is None and job.ranks():
            assert time.monotonic() < end, job.stderr()
            time.sleep(0.05)
        said = job.stderr()
    assert re.search(rf"rank 2 (\(host \S+, pid {pid}\)|on \S+) has died", said), said


# -- the whole of `poseidon train` --------

NET = """
name: "tiny"
layer { name: "data" type: "DummyData" top: "data" top: "label" dummy_data_param {
  shape { dim: 8 dim: 1 dim: 12 dim: 12 } shape { dim: 8 }
  data_filler { type: "gaussian" } data_filler { value: 1 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 4 kernel_size: 5 weight_filler { type: "xavier" } } }
layer { name: "ip" type: "InnerProduct" bottom: "conv1" top: "ip"
  inner_product_param { num_output: 10 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""
SOLVER = """
net: "net.prototxt" base_lr: 0.001 lr_policy: "fixed" solver_mode: CPU
display: 10 snapshot: 20 snapshot_prefix: "snap" max_iter: """


def train(folder, n, *flags, iterations=1_000_000):
    (folder / "net.prototxt").write_text(NET)
    (folder / "solver.prototxt").write_text(f"{SOLVER}{iterations}\n")
    words = ("-m", "poseidon_caffe", "train", "--solver=solver.prototxt", *flags)
    return start(n, *words, cwd=folder)


def fail(job, number, rank):
    """Send a rank that trains a signal; the job, the pid, seconds until the end."""
    job.wait_for("Iteration 40", timeout_s=60)
    pid = job.ranks()[rank]
    since = time.monotonic()
    os.kill(pid, number)
    done = job.finish(timeout_s=120)
    return done, pid, time.monotonic() - since


@pytest.mark.parametrize("rank", [0, 2])
def test_training_ends_in_time_when_a_rank_is_stopped(tmp_path, rank):
    with train(tmp_path, 3, "--comm_timeout_s=6") as job:
        done, pid, took_s = fail(job, signal.SIGSTOP, rank)
    assert done.rc not in {0, 124}, done.said
    assert took_s < 7, done.said
    said = rf"error: .*rank {rank} \(host \S+, pid {pid}\) (is|was) stopped \(SIGSTOP\)"
    assert re.search(said, done.stderr), done.said


@pytest.mark.parametrize(("rank", "n"), [(0, 3), (1, 2)])
def test_training_ends_when_a_rank_is_killed_and_goes_on_with_any_number(
    tmp_path, rank, n
):
    with train(tmp_path, 3) as job:
        done, pid, took_s = fail(job, signal.SIGKILL, rank)
    assert done.rc not in {0, 124}, done.said
    assert took_s < 5, done.said
    assert (
        f"rank {rank} (host {os.uname().nodename}, pid {pid}) has died" in done.stderr
    )
    newest = max(int(f.stem.split("_")[-1]) for f in tmp_path.glob("*.solverstate"))
    with train(tmp_path, n, "--resume=auto", iterations=newest + 25) as job:
        done = job.finish(timeout_s=120)
    assert done.rc == 0, done.said
    # The newest may not have been whole when the rank was killed.
    assert re.search(r"[Rr]esum|[Rr]estoring", done.stderr), done.said
    assert (tmp_path / f"snap_iter_{newest + 25}.solverstate").exists()
