"""Signals become requests; the second Ctrl-C is in earnest."""

from __future__ import annotations

import contextlib
import os
import signal

import pytest

from poseidon_caffe.cli.signals import EarlyInterrupt, SignalActions


class Requests:
    """Notes what is asked of a solver."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def request_stop(self) -> None:
        self.seen.append("stop")

    def request_snapshot(self) -> None:
        self.seen.append("snapshot")


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("effect", ["stop", "snapshot"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_effects(effect, number):
    solver = Requests()
    effects = {signal.SIGINT: "none", signal.SIGHUP: "none", number: effect}
    with SignalActions(solver, effects[signal.SIGINT], effects[signal.SIGHUP]):
        send(signal.SIGINT)
        send(signal.SIGHUP)
    assert solver.seen == [effect]


def test_what_mpirun_hands_on_to_ranks():
    solver = Requests()
    with SignalActions(solver, "stop", "snapshot", is_rank=True):
        send(signal.SIGUSR2)
        send(signal.SIGUSR1)
        send(signal.SIGUSR1)
    assert solver.seen == ["snapshot", "stop", "stop"]


def test_the_second_ctrl_c_aborts():
    solver = Requests()

    def impatient() -> None:
        with SignalActions(solver, "stop", "snapshot"):
            send(signal.SIGINT)
            send(signal.SIGHUP)
            send(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        impatient()
    assert solver.seen == ["stop", "snapshot"]


def test_snapshots_may_be_asked_for_again():
    solver = Requests()
    with SignalActions(solver, "snapshot", "stop"):
        for _ in range(3):
            send(signal.SIGINT)
    assert solver.seen == ["snapshot"] * 3


def test_the_former_handlers_come_back():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGHUP)
    with SignalActions(Requests(), "stop", "stop"):
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGHUP)) == before


def test_an_interrupt_that_somebody_swallows_is_remembered():
    with EarlyInterrupt() as early:
        early.check()
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            early.check()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_of_somebody_else_stays():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with EarlyInterrupt():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
