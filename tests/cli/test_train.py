"""Training for real: the log, resuming, signals, the progress line."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import time

import pytest

from tests.cli.program import FATAL, PROGRAM, Workspace, environment
from tests.report import log_parsers

LINE = re.compile(r"^[IW]\d{4} \d\d:\d\d:\d\d\.\d{6} [ \d]{4,}\d \S+:\d+\] ")


@pytest.fixture
def log(trained):
    return trained[1].stderr


def weights(space: Workspace, iteration: int) -> bytes:
    return (space.folder / f"out_iter_{iteration}.caffemodel").read_bytes()


def test_it_learns_and_writes_caffes_files(trained, log):
    space, done = trained
    assert done.stdout == ""
    table = log_parsers.parse_log_py(log)
    assert table.test[100]["accuracy"] > 0.85
    assert table.test[0]["loss"] > table.test[100]["loss"]
    for iteration in (50, 100):
        for suffix in ("caffemodel", "solverstate"):
            assert f"out_iter_{iteration}.{suffix}" in space.files()


def test_every_line_has_glogs_prefix_or_belongs_to_a_prototxt(log):
    for line in log.splitlines():
        plain = re.match(r"^( *[a-z_]+(: .*| \{)| *\})$", line)
        assert LINE.match(line) or plain, line
    assert "\r" not in log
    assert "\x1b" not in log


def test_the_order_of_caffes_log(log):
    wanted = [
        "Use CPU.",
        "Initializing solver from parameters: ",
        "Creating training net from net file: net.prototxt",
        "Initializing net from parameters: ",
        "Creating Layer ip1",
        "Network initialization done.",
        "Creating test net (#0) specified by net file: net.prototxt",
        "Solver scaffolding done.",
        "Starting Optimization",
        "Solving Digits",
        "Learning Rate Policy: fixed",
        "Iteration 0, Testing net (#0)",
        "    Test net output #0: accuracy = ",
        "    Test net output #1: loss = ",
        "Iteration 0 (",
        "    Train net output #0: loss = ",
        "Iteration 0, lr = 0.1",
        "Iteration 40, lr = 0.1",
        "Snapshotting to binary proto file out_iter_50.caffemodel",
        "Snapshotting solver state to binary proto file out_iter_50.solverstate",
        "Iteration 50, Testing net (#0)",
        "Snapshotting to binary proto file out_iter_100.caffemodel",
        "Iteration 100, loss = ",
        "Iteration 100, Testing net (#0)",
        "Optimization Done.",
        "Optimization Done.",
    ]
    lines = iter(log.splitlines())
    for text in wanted:
        assert any(f"] {text}" in line for line in lines), text


def test_the_well_known_parsers_read_it(log):
    tables = log_parsers.parse_log_py(log)
    assert sorted(tables.train) == [0, 20, 40, 60, 80]
    assert sorted(tables.test) == [0, 50, 100]
    shell = log_parsers.parse_log_sh(log)
    assert shell.test == tables.test
    assert shell.train[20]["lr"] == 0.1
    assert set(shell.train) == {0, 20, 40, 60, 80, 100}
    seconds = log_parsers.seconds(log)
    assert seconds == sorted(seconds)
    assert 0 <= seconds[0] <= seconds[-1] < 120
    seen = log_parsers.digits(log)
    assert seen.snapshots == [50, 100]
    assert seen.rates == [0.1] * 5
    assert [name for name, _ in seen.test] == ["accuracy", "loss"] * 3
    assert [name for name, _ in seen.train] == ["loss"] * 5
    assert {level for level, _ in seen.messages} <= {"I", "W"}


def test_resume_goes_on_exactly(trained, tmp_path, digits):
    whole = trained[0]
    half = Workspace(tmp_path, digits)
    half.write(max_iter="50")
    assert half.train("--resume=auto").returncode == 0
    assert weights(half, 50) == weights(whole, 50)
    half.write(max_iter="100")
    done = half.train("--resume", "auto")
    assert done.returncode == 0, done.stderr
    assert "Resuming from out_iter_50.solverstate" in done.stderr
    assert weights(half, 100) == weights(whole, 100)
    by_name = half.train("--snapshot=out_iter_50.solverstate")
    assert by_name.returncode == 0, by_name.stderr
    assert weights(half, 100) == weights(whole, 100)


def test_resume_auto_starts_afresh_where_there_is_nothing(workspace):
    workspace.write(max_iter="5")
    done = workspace.train("--resume=auto")
    assert done.returncode == 0
    assert "No whole snapshot of out: starting afresh" in done.stderr


def test_fine_tuning_starts_from_the_weights(trained, workspace):
    model = trained[0].folder / "out_iter_100.caffemodel"
    workspace.write(max_iter="1")
    done = workspace.train(f"--weights={model},{model}")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(f"Finetuning from {model}") == 2
    assert "Ignoring source layer" not in done.stderr
    assert log_parsers.parse_log_py(done.stderr).test[0]["accuracy"] > 0.85


def test_layers_that_only_the_weights_have_are_told(trained, workspace):
    model = trained[0].folder / "out_iter_100.caffemodel"
    workspace.net = workspace.net.replace('name: "ip2"', 'name: "new"')
    workspace.write(max_iter="1", test_iter="", test_interval="")
    done = workspace.train(f"--weights={model}")
    assert done.returncode == 0, done.stderr
    assert "] Ignoring source layer ip2\n" in done.stderr


def test_stages_levels_and_modes(workspace):
    extra = """
    layer { name: "p" type: "Power" bottom: "ip2" top: "p" include { stage: "more" } }
    layer { name: "q" type: "Silence" bottom: "p" include { stage: "more" } }
    """
    workspace.net += extra
    workspace.write(max_iter="1", test_iter="", test_interval="", solver_mode="GPU")
    with_stage = workspace.train("--stage=more,other", "--level", "2").stderr
    assert "] Creating Layer p\n" in with_stage
    assert 'stage: "other"' in with_stage
    assert "level: 2" in with_stage
    plain = workspace.train()
    assert plain.returncode == 0
    assert "] Creating Layer p\n" not in plain.stderr
    warnings = [x for x in plain.stderr.splitlines() if x.startswith("W")]
    assert len([x for x in warnings if "solver_mode: GPU" in x]) == 1
    assert "Use CPU." in plain.stderr


def read_until(stream, text: str, timeout_s: float = 60) -> str:
    """Read lines until one holds ``text``."""
    seen, end = "", time.monotonic() + timeout_s
    while time.monotonic() < end:
        line = stream.readline()
        seen += line
        if text in line:
            return seen
        if not line:
            break
    raise AssertionError(f"no {text!r} in:\n{seen}")


@pytest.fixture
def running(workspace):
    """Starts long trainings; ends what is left of them."""
    started = []

    def start(*argv: str, **options: object) -> subprocess.Popen[str]:
        workspace.write(max_iter="1000000", display="100", snapshot="")
        process = workspace.start(*argv, **options)
        started.append(process)
        read_until(process.stderr, "Iteration 100 (")
        return process

    yield start
    for process in started:
        with process:
            process.kill()


def test_sigint_stops_after_a_snapshot(running, workspace):
    process = running()
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    assert process.wait(timeout=60) == 0
    assert "] Optimization stopped early." in rest
    assert rest.rstrip().endswith("] Optimization Done.")
    saved = [x for x in workspace.files() if "_iter_" in x]
    assert len(saved) == 3
    assert {x.rpartition(".")[2] for x in saved} >= {"caffemodel", "solverstate"}


def test_sighup_snapshots_and_goes_on(running, workspace):
    process = running("--sigint_effect=none")
    process.send_signal(signal.SIGHUP)
    read_until(process.stderr, "Snapshotting solver state to")
    read_until(process.stderr, "] Iteration ")
    process.send_signal(signal.SIGINT)  # has no effect
    read_until(process.stderr, "] Iteration ")
    assert process.poll() is None
    assert any(x.endswith(".caffemodel") for x in workspace.files())


def test_ctrl_c_before_training_ends_quietly(workspace):
    workspace.write(max_iter="1000000")
    with workspace.start() as process:
        read_until(process.stderr, "Use CPU.")
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        code = process.wait(timeout=60)
    # Either it came before the handlers (130), or training stopped in good order.
    assert code in {130, 0}
    assert "Traceback" not in rest


def on_a_terminal(workspace: Workspace, *argv: str) -> tuple[int, str]:
    """Train with stderr on a pseudo-terminal; exit code and raw output."""
    master, slave = pty.openpty()
    try:
        process = subprocess.Popen(
            [*PROGRAM, "train", "--solver=solver.prototxt", *argv],
            cwd=workspace.folder,
            env=environment(TERM="xterm", COLUMNS="120", PYTHONUTF8="1"),
            stderr=slave,
        )
        os.close(slave)
        parts = []
        while True:
            ready, _, _ = select.select([master], [], [], 60)
            try:
                part = os.read(master, 65536) if ready else b""
            except OSError:  # EIO: the other end is closed
                part = b""
            if not part:
                break
            parts.append(part)
        return process.wait(timeout=60), b"".join(parts).decode()
    finally:
        os.close(master)


def test_a_terminal_gets_a_progress_line_beside_the_same_log(workspace):
    workspace.write(max_iter="2000", display="500", test_iter="", test_interval="")
    code, raw = on_a_terminal(workspace)
    assert code == 0
    drawn = re.findall(r"\r\x1b\[K(\d+)/2000  ▕.* images/s  loss \S+  ETA \S+", raw)
    assert len(drawn) >= 2
    assert [int(x) for x in drawn] == sorted(int(x) for x in drawn)
    # Take away what the terminal erases: the log is whole and nothing else stays.
    erased = re.sub(r"[^\n]*\r\x1b\[K", "", raw.replace("\r\n", "\n"))
    lines = erased.splitlines()
    assert lines[-1].endswith("] Optimization Done.")
    assert not [x for x in lines if "images/s" in x]
    assert sorted(log_parsers.parse_log_py(erased).train) == [0, 500, 1000, 1500]


def test_no_progress_line_when_it_is_not_wanted(workspace):
    workspace.write(max_iter="300", test_iter="", test_interval="")
    code, raw = on_a_terminal(workspace, "--noprogress")
    assert code == 0
    assert "images/s" not in raw
    assert "\x1b" not in raw


def test_errors_after_training_began_keep_the_log(workspace):
    workspace.write(max_iter="60", base_lr="1e30", test_iter="", test_interval="")
    done = workspace.train()
    assert done.returncode == 1
    assert "Starting Optimization" in done.stderr
    assert FATAL.search(done.stderr.splitlines()[-1])
