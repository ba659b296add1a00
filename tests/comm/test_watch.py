"""Watchmen on the fake network, and the last words of real processes."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from poseidon_caffe.comm.courier import Courier, Waiting
from poseidon_caffe.comm.fake import FakeNetwork
from poseidon_caffe.comm.settings import ClusterSettings
from poseidon_caffe.comm.watch import LastWords, Watchman
from poseidon_caffe.errors import ClusterError
from tests.comm.launch import ROOT, environment

SETTINGS = ClusterSettings(comm_timeout_s=1.0, stall_warning_s=0.3)
NOTHING = (dict, dict, print)


def run_ranks(size, work, network=None, settings=SETTINGS):
    """``work(watchman, courier)`` on each rank; what they raised, and were told."""
    network = network or FakeNetwork(size)
    raised, told = [None] * size, [[] for _ in range(size)]

    def run(rank):
        courier = Courier(network.transport(rank), settings)
        courier.start()
        watchman = Watchman(courier, settings, told[rank].append, interval_s=0.02)
        try:
            with watchman:
                work(watchman, courier)
        except Exception as error:  # noqa: BLE001 - looked at by the test
            raised[rank] = error
        courier.close(1.0)

    threads = [threading.Thread(target=run, args=(r,)) for r in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    return raised, told


def test_ranks_that_end_at_different_times_part_in_peace():
    def work(watchman, courier):
        for _ in range(10 * courier.rank):
            watchman.beat(1, 0)
            time.sleep(0.02)

    settings = ClusterSettings(comm_timeout_s=5, stall_warning_s=2)
    raised, told = run_ranks(4, work, settings=settings)
    assert raised == [None] * 4
    assert told == [[]] * 4


def test_one_rank_alone():
    raised, _ = run_ranks(1, lambda watchman, courier: watchman.beat(0))
    assert raised == [None]


def test_a_rank_that_fails_lets_the_others_know():
    def work(watchman, courier):
        if courier.rank == 1:
            raise ValueError("broken")
        courier.wait_for(lambda: False, Waiting("row 1", 0))

    raised, _ = run_ranks(3, work)
    assert isinstance(raised[1], ValueError)
    for error in (raised[0], raised[2]):
        assert (
            "rank 1 (host localhost, pid 1001) ended with an error of its own"
            in str(error)
        )


def test_a_rank_that_never_says_goodbye_is_named():
    network = FakeNetwork(2)

    def work(watchman, courier):
        time.sleep(0.2)
        if courier.rank == 1:
            network.pause(1)
            time.sleep(1.5)
            raise KeyError

    raised, _ = run_ranks(2, work, network)
    assert isinstance(raised[0], ClusterError)
    assert "rank 1 (host localhost, pid 1001) " in str(raised[0])
    assert "the others' goodbye" in str(raised[0])


def test_layers_have_their_names():
    def work(watchman, courier):
        watchman.name_layers(["data", "conv1"])
        if courier.rank == 1:
            watchman.beat(7, 1)
            time.sleep(2)
        else:
            courier.wait_for(lambda: False, Waiting("row 1", 1))

    raised, _ = run_ranks(2, work)
    assert "in iteration 7, layer conv1" in str(raised[0])


# -- LastWords -------------------------------------------------------------------------


@pytest.fixture
def kept_signals():
    numbers = (signal.SIGTERM, signal.SIGCONT, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    yield
    assert [signal.getsignal(number) for number in numbers] == before
    fd = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(fd)
    assert fd == -1


def test_last_words_are_said_then_the_process_leaves(kept_signals):
    told, left, composed = [], threading.Event(), []

    def compose(unheard):
        composed.append(unheard)
        return "the line"

    words = LastWords(compose, dict, dict, told.append, lambda code: left.set())
    words.start()
    signal.raise_signal(signal.SIGTERM)
    assert left.wait(5)
    words.close()
    assert (told, composed) == (["the line"], [None])


def test_nothing_to_say(kept_signals):
    told, left = [], threading.Event()
    words = LastWords(lambda _: None, dict, dict, told.append, lambda code: left.set())
    words.start()
    signal.raise_signal(signal.SIGTERM)
    assert left.wait(5)
    words.close()
    assert not told


@pytest.mark.parametrize(("pause_s", "unheard"), [(0.3, {2}), (0.0, set())])
def test_roll_call_finds_who_does_not_answer(kept_signals, pause_s, unheard):
    found, left, called = [], threading.Event(), threading.Event()

    def roll_call():
        called.set()
        return {1: 5, 2: 5}

    words = LastWords(
        found.append, roll_call, lambda: {1: 6, 2: 5}, print, lambda code: left.set()
    )
    words.start()
    signal.raise_signal(signal.SIGCONT)
    assert called.wait(5)
    time.sleep(pause_s)
    signal.raise_signal(signal.SIGTERM)
    assert left.wait(5)
    words.close()
    assert found == [unheard]


def test_other_handlers_go_on_working(kept_signals):
    seen, left = [], threading.Event()
    former = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    words = LastWords(lambda _: "", dict, dict, print, lambda code: left.set())
    words.start()
    signal.raise_signal(signal.SIGINT)
    time.sleep(0.05)
    words.close()
    signal.signal(signal.SIGINT, former)
    assert seen == [signal.SIGINT]
    assert not left.is_set()


def test_close_before_start_and_outside_the_main_thread_do_nothing(kept_signals):
    words = LastWords(lambda _: "", *NOTHING)
    words.close()
    thread = threading.Thread(target=words.start)
    thread.start()
    thread.join()
    words.close()


# A rank whose main thread sits in C with no chance to run a Python handler.
_IN_C = """
import hashlib, os
from poseidon_caffe.comm.courier import Courier
from poseidon_caffe.comm.fake import FakeNetwork
from poseidon_caffe.comm.settings import ClusterSettings
from poseidon_caffe.comm.watch import Watchman
settings = ClusterSettings()
courier = Courier(FakeNetwork(1).transport(0), settings)
courier.start()
Watchman(courier, settings, lambda line: os.write(2, line.encode())).start()
print("ready", flush=True)
# One call of C that lets other threads run, and that no signal cuts short.
hashlib.pbkdf2_hmac("sha256", b"a", b"b", 300_000_000)
"""


def test_sigterm_while_the_main_thread_is_in_c():
    process = subprocess.Popen(
        [sys.executable, "-c", _IN_C], cwd=ROOT, env=environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    start = time.monotonic()
    process.terminate()
    _, stderr = process.communicate(timeout=10)
    assert time.monotonic() - start < 2
    assert process.returncode == 143
    assert re.match(r"rank 0: ended by SIGTERM while all other ranks lived", stderr)
