"""The program: finding the command, help, version, wrong calls, speed of help."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time

import pytest

from poseidon_caffe import __version__
from poseidon_caffe.cli import main
from poseidon_caffe.cli.main import COMMANDS, load, run
from poseidon_caffe.errors import UsageError

FATAL = re.compile(r"^F\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ \S+\] poseidon: error: (.*)$")


def poseidon(*argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "poseidon_caffe", *argv],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **env},
        timeout=60,
    )


def test_every_command_loads_and_has_help(capsys):
    for name in COMMANDS:
        command = load(name)
        assert command.name == name
        assert command.summary
        assert run([name, "--help"]) == 0
        out = capsys.readouterr().out
        assert f"Usage: poseidon {name}" in out
        assert command.summary in out
        assert max(map(len, out.splitlines())) <= 88
        for flag in command.flags:
            assert flag.hidden or flag.name in out


def test_overview_lists_every_command(capsys):
    assert run(["--help"]) == 0
    out = capsys.readouterr().out
    for name in COMMANDS:
        assert re.search(rf"^  {name} +\S", out, re.MULTILINE)
    assert run(["-h"]) == 0
    assert capsys.readouterr().out == out
    assert run(["help"]) == 0
    assert capsys.readouterr().out == out


def test_no_words_at_all_is_an_error(capsys):
    assert run([]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Usage: poseidon COMMAND" in captured.err


@pytest.mark.parametrize("argv", [["--version"], ["train", "--version"], ["-version"]])
def test_version(argv, capsys):
    assert run(argv) == 0
    assert capsys.readouterr().out == f"poseidon {__version__}\n"


@pytest.mark.parametrize(
    ("argv", "parts"),
    [
        (["trian"], ["unknown command 'trian'", "did you mean train?"]),
        (["--solver", "x"], ["no command given", "train, test"]),
        (["train", "--solvr", "x"], ["unknown flag --solvr", "--solver?"]),
        (["train", "extra", "--solver=x"], ["unexpected word 'extra'"]),
        (["train"], ["--solver is missing"]),
        (["test", "--model=x"], ["--weights is missing"]),
        (["time"], ["--model is missing"]),
        (["train", "--solver=x", "--gpu", "a"], ["--gpu: expected numbers", "'a'"]),
        (["test", "--model=x", "--weights=w", "--gpu=0,"], ["--gpu", "'0,'"]),
        (["time", "--model=x", "--gpu=-1"], ["--gpu", "'-1'"]),
        (["device_query", "--gpu=any"], ["--gpu", "or all, received 'any'"]),
        (["train", "--solver=x", "--precision=fp8"], ["--precision", "tf32, bf16"]),
        (
            ["train", "--solver=x", "--weights=w", "--snapshot=s"],
            ["--weights and --snapshot exclude each other"],
        ),
        (
            ["train", "--solver=x", "--snapshot=a_iter_9.caffemodel"],
            ["a_iter_9.caffemodel", ".solverstate", "--weights"],
        ),
        (["train", "--solver=x", "--threads=-1"], ["--threads", "-1"]),
        (["train", "--solver=x", "--resume=yes"], ["--resume", "auto", "'yes'"]),
    ],
)
def test_wrong_calls_are_one_line_and_a_hint(argv, parts, capsys):
    assert run(argv) == 1
    first, *hints = capsys.readouterr().err.splitlines()
    found = FATAL.match(first)
    assert found, first
    for part in parts:
        assert part in found[1]
    assert len(hints) == 1
    assert "--help" in hints[0]


def test_flags_before_the_command_word():
    def found(*argv: str) -> str:
        call = main._find(argv)
        assert call is not None
        return f"{call.command.name} {call.args.values.get('solver')}"

    assert found("--solver", "s", "train") == "train s"
    assert found("-solver=s", "--noprogress", "train") == "train s"
    # A flag's value that reads like a command is no command.
    assert found("--solver", "time", "train") == "train time"
    assert found("--solver", "train", "train") == "train train"
    assert main._find(["--solver", "s"]) is None
    with pytest.raises(UsageError, match="--solvr"):
        main._find(["--solvr", "s", "train"])


def test_the_originals_flags_get_one_warning_line_each(capsys):
    argv = ["train", "--num_rows_per_table=1", "--client_id", "3", "--solver=/no/such"]
    assert run(argv) == 1
    lines = capsys.readouterr().err.splitlines()
    warnings = [line for line in lines if line.startswith("W")]
    assert len(warnings) == 2
    assert "--num_rows_per_table has no effect: rows are cut by bytes" in warnings[0]
    assert "--client_id has no effect here" in warnings[1]


def test_the_originals_cluster_flags_warn_where_nothing_trains(capsys):
    argv = ["time", "--svb=true", "--table_staleness", "3", "--model=/no/such"]
    assert run(argv) == 1
    lines = capsys.readouterr().err.splitlines()
    warnings = [line for line in lines if line.startswith("W")]
    assert len(warnings) == 2
    assert "--svb has no effect here" in warnings[0]
    assert "--table_staleness has no effect here" in warnings[1]


def test_a_host_file_is_checked_and_put_into_mpiruns_words(tmp_path, capsys):
    path = tmp_path / "hosts"
    path.write_text("0 10.0.0.1 9999\n1 10.0.0.2 9999\n")
    assert run(["train", f"--hostfile={path}", "--solver=/no/such"]) == 1
    assert "mpirun -n 2 --host 10.0.0.1,10.0.0.2" in capsys.readouterr().err
    path.write_text("0 10.0.0.1 9999\nsecond\tline is\twrong\n")
    assert run(["train", f"--hostfile={path}", "--solver=/no/such"]) == 1
    assert f"{path}:2: expected 'id ip port'" in capsys.readouterr().err


def test_caffes_flags_of_other_commands_are_accepted(capsys):
    assert run(["time", "--snapshot", "s", "--model=/no/such"]) == 1
    err = capsys.readouterr().err
    assert "--snapshot has no effect on 'time'" in err
    assert "/no/such" in err


def test_help_is_quick_and_loads_nothing_heavy():
    # The best of a few: other work on the machine must not fail this.
    spent = []
    for _ in range(5):
        start = time.perf_counter()
        assert poseidon("--help").returncode == 0
        spent.append(time.perf_counter() - start)
    assert min(spent) < 0.3
    code = (
        "import sys; from poseidon_caffe.cli.main import run; run(['--help']); "
        "heavy = {'numpy', 'google.protobuf', 'lmdb', 'PIL', 'ctypes'}; "
        "found = heavy & set(sys.modules); assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_reader_that_goes_away_is_no_error():
    script = f"{sys.executable} -m poseidon_caffe train --help | head -n 1"
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith("poseidon train")
    assert done.stderr == ""


def test_debug_shows_the_traceback():
    done = poseidon("train", "--solver=/no/such", "--debug")
    assert done.returncode == 1
    assert "Traceback (most recent call last)" in done.stderr
    assert FATAL.search(done.stderr.splitlines()[-1]) or "poseidon: error" in (
        done.stderr
    )
    assert "Traceback" not in poseidon("train", "--solver=/no/such").stderr


def test_minloglevel_from_flag_and_environment(tmp_path):
    loud = poseidon("device_query")
    assert loud.returncode == 0
    assert "I" in {line[0] for line in loud.stderr.splitlines()}
    assert poseidon("device_query", "--minloglevel=1").stderr.count("\nI") == 0
    quiet = poseidon("device_query", GLOG_minloglevel="1").stderr
    assert not [line for line in quiet.splitlines() if line.startswith("I")]
    # Errors are always told.
    failed = poseidon("train", "--solver=/no/such", GLOG_minloglevel="3")
    assert "/no/such" in failed.stderr


def test_log_dir_gets_glogs_files(tmp_path):
    done = poseidon("device_query", "--log_dir", str(tmp_path))
    assert done.returncode == 0
    text = (tmp_path / "poseidon.INFO").read_text()
    assert text.startswith("Log file created at: ")
    for line in done.stderr.splitlines():
        assert line in text
    missing = poseidon("device_query", f"--log_dir={tmp_path}/none")
    assert missing.returncode == 1
    assert "--log_dir" in missing.stderr
