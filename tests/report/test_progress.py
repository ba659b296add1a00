"""The live line: contents, rate limit, and that the log stays whole."""

from __future__ import annotations

import io
import re

import pytest

from poseidon_caffe.report.glog import Glog
from poseidon_caffe.report.progress import (
    Progress,
    ProgressListener,
    bar,
    duration,
    may_draw,
)
from poseidon_caffe.solver import events


class Clock:
    """A clock that stands until it is moved."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True

    def screen(self) -> list[str]:
        """Lines as a terminal shows them after carriage returns and erasing."""
        shown = []
        for line in self.getvalue().split("\n"):
            text = ""
            for part in re.split(r"(\r|\x1b\[K)", line):
                text = "" if part in {"\r", "\x1b[K"} else text + part
            shown.append(text)
        return shown


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")


def test_what_it_says():
    stream, clock = Terminal(), Clock()
    progress = Progress(Glog(stream), total=500, images_per_step=64, clock=clock)
    progress.start(100)
    clock.now += 2.0
    progress.update(200, "loss 0.25")
    text = stream.screen()[-1]
    # 100 iterations in 2 s; 300 are left.
    assert text.startswith("200/500  ▕")
    assert "3200 images/s" in text
    assert "loss 0.25" in text
    assert text.endswith("ETA 0:06")


def test_without_images_it_counts_iterations():
    stream, clock = Terminal(), Clock()
    progress = Progress(Glog(stream), total=10, clock=clock)
    progress.start(0)
    clock.now += 4.0
    progress.update(2)
    assert "0.5 iter/s" in stream.screen()[-1]


def test_the_rate_is_that_of_the_last_seconds():
    stream, clock = Terminal(), Clock()
    progress = Progress(Glog(stream), total=10_000, clock=clock)
    progress.start(0)
    step = 0
    for _ in range(60):  # a slow minute, then a fast one
        clock.now += 1.0
        step += 1
        progress.update(step)
    for _ in range(60):
        clock.now += 1.0
        step += 100
        progress.update(step)
    assert "100 iter/s" in stream.screen()[-1]


def test_it_is_drawn_ten_times_a_second_at_most():
    stream, clock = Terminal(), Clock()
    progress = Progress(Glog(stream), total=10_000, clock=clock)
    progress.start(0)
    for step in range(1000):
        clock.now += 0.001
        progress.update(step)
    assert 9 <= stream.getvalue().count("\r") <= 11


def test_log_lines_stand_above_it_and_nothing_of_it_stays():
    stream, clock = Terminal(), Clock()
    glog = Glog(stream)
    progress = Progress(glog, total=10, clock=clock)
    progress.start(0)
    for step in range(1, 11):
        clock.now += 1.0
        progress.update(step)
        glog.info("solver.cpp:239", f"Iteration {step}")
    assert stream.screen()[-1].startswith("10/10")
    progress.finish()
    glog.info("caffe.cpp:250", "Optimization Done.")
    *lines, last = stream.screen()
    assert last == ""
    assert len(lines) == 11
    assert all(re.match(r"^I\d{4} .*\] (Iteration \d+|Optim.*)$", x) for x in lines)


def test_a_narrow_terminal_cuts_it(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    stream, clock = Terminal(), Clock()
    progress = Progress(Glog(stream), total=10, clock=clock)
    progress.start(0)
    clock.now += 1
    progress.update(1)
    assert len(stream.screen()[-1]) == 19


def test_bars():
    assert bar(0.5, 4, unicode=True) == "▕██  ▏"
    assert bar(0.40625, 4, unicode=True) == "▕█▋  ▏"
    assert bar(1.5, 2, unicode=True) == "▕██▏"
    assert bar(0.5, 4, unicode=False) == "[##..]"


def test_ascii_where_the_terminal_knows_no_better():
    stream, clock = Terminal(), Clock()
    stream.encoding = "latin-1"
    progress = Progress(Glog(stream), total=2, clock=clock)
    progress.start(0)
    clock.now += 1
    progress.update(1)
    stream.getvalue().encode("ascii")
    assert "[############" in stream.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00"),
        (42.4, "0:42"),
        (723, "12:03"),
        (11045, "3:04:05"),
        (float("inf"), "-:--"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_only_on_a_terminal(monkeypatch):
    assert may_draw(Terminal())
    assert not may_draw(io.StringIO())
    monkeypatch.setenv("TERM", "dumb")
    assert not may_draw(Terminal())


def test_the_listener_follows_a_solver():
    stream = Terminal()
    glog = Glog(stream)
    listener = ProgressListener(glog, images_per_iter=8)
    listener.on_event(events.IterationFinished(1, 1.0))  # before the start: nothing
    assert stream.getvalue() == ""
    listener.on_event(events.SolverStarted("LeNet", "SGD", "inv", 0, 20))
    listener.on_event(events.IterationFinished(1, 0.123456))
    assert stream.screen()[-1].startswith("1/20")
    assert "loss 0.1235" in stream.screen()[-1]
    listener.on_event(events.Finished(20))
    assert stream.screen()[-1] == ""
    glog.info("a.cpp:1", "x")
    assert stream.screen()[-1] == ""
