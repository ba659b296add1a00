"""glog's line prefix, levels, files and overlay."""

from __future__ import annotations

import io
import os
import re
import threading
import time

import pytest

from poseidon_caffe.errors import UsageError
from poseidon_caffe.report.glog import (
    Glog,
    Level,
    LogFiles,
    Overlay,
    format_g,
    prefix,
)

LINE = re.compile(
    r"^[IWEF](0[1-9]|1[0-2])([0-2]\d|3[01]) \d\d:\d\d:\d\d\.\d{6} [ \d]{4,}\d "
    r"\S+:\d+\] (.*)$"
)


def test_prefix_to_the_letter(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    try:
        # 2026-11-22 15:16:09.595388 UTC, as in the recorded log but for the year.
        when = 1795360569.595388
        assert prefix(Level.INFO, "solver.cpp:289", when, 2390) == (
            "I1122 15:16:09.595388  2390 solver.cpp:289] "
        )
        assert prefix(Level.FATAL, "a.cpp:1", 1767225600.0, 1234567) == (
            "F0101 00:00:00.000000 1234567 a.cpp:1] "
        )
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.112, "0.112"),
        (2.3519471, "2.35195"),
        (0.009985034, "0.00998503"),
        (1.0, "1"),
        (1e-05, "1e-05"),
        (1234567.0, "1.23457e+06"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
    ],
)
def test_floats_as_c_plus_plus_prints_them(value, text):
    assert format_g(value) == text


def test_lines_and_levels():
    stream = io.StringIO()
    glog = Glog(stream)
    glog.info("a.cpp:1", "one")
    glog.warning("a.cpp:2", "two")
    glog.error("a.cpp:3", "three")
    glog.fatal("a.cpp:4", "four\nmore")
    *lines, more = stream.getvalue().splitlines()
    assert [line[0] for line in lines] == list("IWEF")
    assert [LINE.match(line)[3] for line in lines] == ["one", "two", "three", "four"]
    assert more == "more"


@pytest.mark.parametrize(("level", "letters"), [(1, "WEF"), (2, "EF"), (4, "F")])
def test_min_level(level, letters):
    stream = io.StringIO()
    glog = Glog(stream, min_level=level)
    for each in Level:
        glog.write(each, "a.cpp:1", "text")
    assert "".join(line[0] for line in stream.getvalue().splitlines()) == letters


def test_files(tmp_path):
    glog = Glog(io.StringIO(), files=LogFiles(tmp_path))
    assert list(tmp_path.iterdir()) == []  # nothing before the first line
    glog.info("a.cpp:1", "mild")
    glog.warning("a.cpp:1", "worse")
    glog.close()
    info = (tmp_path / "poseidon.INFO").read_text().splitlines()
    warning = (tmp_path / "poseidon.WARNING").read_text().splitlines()
    assert info[0].startswith("Log file created at: ")
    assert [line[-5:] for line in info[3:]] == [" mild", "worse"]
    assert [line[-5:] for line in warning[3:]] == ["worse"]
    assert not (tmp_path / "poseidon.ERROR").exists()
    names = [path.name for path in tmp_path.iterdir() if not path.is_symlink()]
    assert len(names) == 2
    for name in names:
        assert re.fullmatch(
            rf"poseidon\..+\..+\.log\.(INFO|WARNING)\.\d{{8}}-\d{{6}}\.{os.getpid()}",
            name,
        )


def test_a_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(UsageError, match="not a folder"):
        LogFiles(tmp_path / "none")


def test_the_overlay_is_taken_away_around_each_line():
    stream = io.StringIO()
    glog = Glog(stream)

    class Marks(Overlay):
        def clear(self):
            stream.write("<")

        def redraw(self):
            stream.write(">")

    glog.overlay = Marks()
    glog.info("a.cpp:1", "x")
    assert stream.getvalue().startswith("<I")
    assert stream.getvalue().endswith("x\n>")


def test_lines_of_several_threads_do_not_mix():
    stream = io.StringIO()
    glog = Glog(stream)

    def work(letter: str) -> None:
        for _ in range(200):
            glog.info("a.cpp:1", letter * 50)

    threads = [threading.Thread(target=work, args=(c,)) for c in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 600
    found = [LINE.match(line) for line in lines]
    assert all(m and m[3] in {c * 50 for c in "abc"} for m in found)
