"""Errors in words and as exit codes."""

from __future__ import annotations

import errno
import io
import runpy

import pytest

from poseidon_caffe.errors import WeightsError
from poseidon_caffe.report.console import explain, tell
from poseidon_caffe.report.glog import Glog


def told(error: BaseException, **kwargs: object) -> tuple[int, list[str]]:
    stream = io.StringIO()
    code = tell(Glog(stream), error, **kwargs)
    return code, stream.getvalue().splitlines()


def test_our_errors_are_one_line_and_their_findings():
    code, lines = told(WeightsError("w.caffemodel does not fit:\n  conv1\n  ip1"))
    assert code == 1
    assert lines[0][0] == "F"
    assert lines[0].endswith("] poseidon: error: w.caffemodel does not fit:")
    assert lines[1:] == ["    conv1", "    ip1"]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", "a.txt"),
            "No such file or directory: a.txt",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (MemoryError("Unable to allocate 9 TiB"), "out of memory: Unable"),
        (KeyboardInterrupt(), "interrupted"),
        (WeightsError(""), "WeightsError"),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
    ],
)
def test_words(error, message):
    assert explain(error).message.startswith(message)


def test_unknown_errors_say_where_and_how_to_see_more():
    def broken() -> None:
        raise ValueError("bad\nvery")

    with pytest.raises(ValueError, match="bad") as caught:
        broken()
    found = explain(caught.value)
    assert found.message == "ValueError: bad"
    assert found.hints[0] == "very"
    assert "test_console.py" in found.hints[1]
    assert "in broken" in found.hints[1]
    assert "--debug" in found.hints[-1]
    caught.value.add_note("raised in layer x")
    assert "raised in layer x" in explain(caught.value).hints


def test_a_file_that_is_no_python_is_named(tmp_path):
    path = tmp_path / "old.py"
    path.write_text('import os\nprint "x"\n')
    with pytest.raises(SyntaxError) as caught:
        runpy.run_path(str(path))
    assert explain(caught.value).hints[0] == f'at {path}:2: "print "x""'


def test_exit_codes():
    assert told(KeyboardInterrupt())[0] == 130
    assert told(ValueError())[0] == 1


def test_debug_adds_the_traceback():
    try:
        raise ValueError("deep")
    except ValueError as error:
        _, lines = told(error, debug=True)
    assert "Traceback (most recent call last):" in lines[0]
    assert any(line.startswith("F") and "ValueError: deep" in line for line in lines)


def test_hints_follow():
    _, lines = told(WeightsError("x"), hints=("see 'poseidon --help'",))
    assert lines[-1] == "    see 'poseidon --help'"
