from __future__ import annotations

import io

from poseidon_caffe.cli.logged_notes import LoggedNotes
from poseidon_caffe.report.glog import Glog


def test_levels_and_tag():
    stream = io.StringIO()
    notes = LoggedNotes(Glog(stream), "tool.cpp:7")
    notes.info("a")
    notes.warning("b")
    notes.error("c")
    lines = stream.getvalue().splitlines()
    assert [line[0] for line in lines] == ["I", "W", "E"]
    assert [line.partition(" tool.cpp:7] ")[2] for line in lines] == ["a", "b", "c"]
