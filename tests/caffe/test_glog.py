from __future__ import annotations

import re

import pytest

from poseidon_caffe import caffe
from poseidon_caffe.caffe import glog


@pytest.fixture(autouse=True)
def _forget():
    glog._log.clear()


def test_lines_look_like_glogs(capsys):
    caffe.log("hello")
    line = capsys.readouterr().err
    assert re.fullmatch(r"I\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ \S+\] hello\n", line)


def test_the_environment_quiets_it(capsys, monkeypatch):
    monkeypatch.setenv("GLOG_minloglevel", "2")
    caffe.log("hello")
    assert capsys.readouterr().err == ""


def test_init_log_sets_the_level(capsys):
    caffe.init_log(1)
    caffe.log("hello")
    caffe.init_log(0)
    caffe.log("again")
    assert capsys.readouterr().err.endswith("] again\n")
