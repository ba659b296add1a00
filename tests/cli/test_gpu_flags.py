"""The flags about GPUs: which are asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

from poseidon_caffe.backend.gpu.settings import PRECISIONS
from poseidon_caffe.cli.flags import Arguments, parse
from poseidon_caffe.cli.gpu_flags import GPU_FLAGS, asked_gpus
from poseidon_caffe.cli.main import load
from poseidon_caffe.errors import UsageError
from tests.cli.program import ROOT


def given(*argv: str) -> Arguments:
    return parse(argv, GPU_FLAGS)


@pytest.mark.parametrize(
    ("argv", "asked"),
    [
        ((), ()),
        (("--gpu=",), ()),
        (("-gpu", "0"), (0,)),
        (("--gpu", "2,0, 1"), (2, 0, 1)),
        (("--gpu=0,0",), (0, 0)),
        (("--gpu", "all"), None),
    ],
)
def test_which_gpus(argv, asked):
    assert asked_gpus(given(*argv)) == asked


@pytest.mark.parametrize("text", ["any", "-1", "0;1", "0,", ",", "1.5", "²"])
def test_what_is_no_list(text):
    with pytest.raises(UsageError, match="--gpu: expected numbers"):
        asked_gpus(given(f"--gpu={text}"))


def test_the_defaults_are_those_of_the_settings():
    args = given()
    assert args.text("precision") == "fp32"
    assert not args.boolean("deterministic")
    assert args.boolean("cuda_graph")
    assert not given("--nocuda_graph").boolean("cuda_graph")
    [precision] = [flag for flag in GPU_FLAGS if flag.name == "precision"]
    assert precision.choices == PRECISIONS


@pytest.mark.parametrize("command", ["train", "test", "time"])
def test_the_commands_that_compute_know_all_of_them(command):
    names = {flag.name for flag in load(command).flags if not flag.hidden}
    assert {flag.name for flag in GPU_FLAGS} <= names


def test_help_loads_neither_numpy_nor_a_backend():
    code = (
        "import sys; from poseidon_caffe.cli.main import COMMANDS, load\n"
        "for name in COMMANDS: load(name)\n"
        "bad = [m for m in ('numpy', 'cupy', 'ctypes') if m in sys.modules]\n"
        "bad += [m for m in sys.modules if m.startswith('poseidon_caffe.backend')]\n"
        "assert not bad, bad"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
