"""Watching real processes: alive, stopped, killed; clocks that leave out a stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from poseidon_caffe.comm.process import GONE, ProcessWatch, RunningClock, machine_id

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


@pytest.fixture
def child():
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def _becomes(watch, states, limit_s=5.0):
    end = time.monotonic() + limit_s
    while watch.state() not in states:
        assert time.monotonic() < end, watch.state()
        time.sleep(0.005)


def test_a_sleeping_process(child):
    _becomes(ProcessWatch(child.pid), {"S"})


def test_stopped_and_going_on(child):
    watch = ProcessWatch(child.pid)
    child.send_signal(signal.SIGSTOP)
    _becomes(watch, {"T"})
    child.send_signal(signal.SIGCONT)
    _becomes(watch, {"S", "R"})


def test_killed_but_not_yet_waited_for_is_gone(child):
    watch = ProcessWatch(child.pid)
    child.kill()
    _becomes(watch, {GONE})
    child.wait()
    assert watch.state() == GONE


def test_a_younger_process_of_the_same_number_is_another_one(child):
    watch = ProcessWatch(child.pid)
    watch._born = "1"
    assert watch.state() == GONE


def test_names_with_parentheses_do_not_confuse(tmp_path):
    program = tmp_path / "a) T (b"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([str(program), "60"]) as process:
        _becomes(ProcessWatch(process.pid), {"S"})
        process.kill()


def test_what_was_never_seen_is_never_judged():
    process = subprocess.Popen(["true"])
    process.wait()
    assert ProcessWatch(process.pid).state() == ""


def test_machine_id_is_shared_on_one_machine_only():
    code = "from poseidon_caffe.comm.process import machine_id; print(machine_id('a'))"
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ).stdout  # fmt: skip
    assert int(out) == machine_id("a") != machine_id("b")
    assert float(machine_id("a")).is_integer()


def test_running_clock_leaves_out_a_stop():
    now = [100.0]
    clock = RunningClock(2.0, lambda: now[0])
    for step in (0.5, 0.5, 60.0, 0.5):
        now[0] += step
        clock.tick()
    assert clock.now() == pytest.approx(0.5 + 0.5 + 2.0 + 0.5)
    now[0] += 1.0
    assert clock.now() == pytest.approx(4.5)
    now[0] += 60.0
    assert clock.now() == pytest.approx(5.5)


def test_a_pause_is_known_during_and_just_after_it():
    now = [0.0]
    clock = RunningClock(2.0, lambda: now[0])
    assert clock.pause_s() == 0
    now[0] = 9.0
    assert clock.pause_s() == pytest.approx(9)  # before the first tick after it
    clock.tick()
    assert clock.was_stopped
    assert clock.pause_s() == pytest.approx(9)
    for _ in range(6):
        now[0] += 0.5
        clock.tick()
    assert clock.pause_s() == 0
    assert not clock.was_stopped
