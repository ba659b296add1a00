"""Every event's lines, to the letter of the log that Caffe itself wrote."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest

from poseidon_caffe.report.glog import Glog
from poseidon_caffe.report.listener import GlogListener
from poseidon_caffe.solver import events
from poseidon_caffe.solver.events import OutputValue
from tests.report import log_parsers

GOLDEN = Path(__file__).parent.parent / "golden" / "train" / "lenet_reference.log"
PREFIX = re.compile(r"^I\d{4,8} [\d:.]+ +\d+ (\S+\])")


def lines_of(*happened: events.Event) -> list[str]:
    """The lines without time and thread: ``source:line] text``."""
    stream = io.StringIO()
    listener = GlogListener(Glog(stream))
    for event in happened:
        listener.on_event(event)
    return [PREFIX.sub(r"\1", line) for line in stream.getvalue().splitlines()]


def golden() -> list[str]:
    return [PREFIX.sub(r"\1", line) for line in GOLDEN.read_text().splitlines()]


def test_the_loop_reads_as_caffes():
    accuracy = OutputValue(0, "accuracy", 0.112)
    loss = OutputValue(1, "loss", 2.351948, 1.0)
    train = OutputValue(0, "loss", 2.300763, 1.0)
    rate = 48.899755
    written = lines_of(
        events.ScaffoldingDone(),
        events.SolverStarted("LeNet", "SGD", "inv", 0, 500),
        events.TestStarted(0, 0),
        events.TestOutputs(0, 0, (accuracy, loss), None),
        events.IterationDisplayed(0, 2.300763, 0.0, 0.235, 20, (train,)),
        events.LearningRateDisplayed(0, 0.01),
        events.IterationFinished(1, 2.3),
        events.IterationDisplayed(20, 1.6869301, rate, 0.409, 20, ()),
        events.LearningRateDisplayed(20, 0.009985034),
        events.SnapshotWritten(
            250, "lenet_iter_250.caffemodel", "lenet_iter_250.solverstate", False
        ),
        events.FinalLoss(500, 0.0653132),
        events.Finished(500),
    )
    recorded = golden()
    # The same lines in the same order, with others between them.
    position = 0
    for line in written:
        assert line in recorded[position:], line
        position = recorded.index(line, position) + 1
    assert len(written) == 15


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (
            events.NetCreating(True, 0, "from net file: a.prototxt"),
            "solver.cpp:102] Creating training net from net file: a.prototxt",
        ),
        (
            events.NetCreating(False, 0, "specified by net file: a.prototxt"),
            "solver.cpp:190] Creating test net (#0) specified by net file: a.prototxt",
        ),
        (events.StoppedEarly(7), "solver.cpp:309] Optimization stopped early."),
        (
            events.StepReached(5000, 1),
            "sgd_solver.cpp:50] MultiStep Status: Iteration 5000, step = 1",
        ),
        (
            events.GradientsClipped(3, 40.0, 35.0, 0.875),
            (
                "sgd_solver.cpp:122] Gradient clipping: scaling down gradients "
                "(L2 norm 40 > 35) by scale factor 0.875"
            ),
        ),
        (
            events.TestOutputs(0, 0, (), 2.3),
            "solver.cpp:396] Test loss: 2.3",
        ),
        (events.WeightsLoaded("w"), "caffe.cpp:155] Finetuning from w"),
        (events.LayerIgnored("ip"), "net.cpp:744] Ignoring source layer ip"),
        (events.Resumed("s", 3, True), "caffe.cpp:232] Resuming from s"),
        (events.DebugLine("    [Forward] x"), "net.cpp:566]     [Forward] x"),
    ],
)
def test_single_lines(event, text):
    assert lines_of(event) == [text]


def test_hdf5_snapshots():
    first, second = lines_of(events.SnapshotWritten(5, "a.h5", "b.h5", True))
    assert first.endswith("] Snapshotting to HDF5 file a.h5")
    assert second.endswith("] Snapshotting solver state to HDF5 file b.h5")


def test_the_solvers_prototxt_follows_its_line():
    head, *rest = lines_of(events.SolverInitializing('net: "a"\nbase_lr: 0.01\n'))
    assert head == "solver.cpp:45] Initializing solver from parameters: "
    assert rest == ['net: "a"', "base_lr: 0.01"]


@pytest.mark.parametrize(
    "event", [events.Warned("look out"), events.SnapshotFailed(3, "disk full")]
)
def test_warnings_are_warnings(event):
    stream = io.StringIO()
    GlogListener(Glog(stream)).on_event(event)
    assert stream.getvalue().startswith("W")
    assert stream.getvalue().count("\n") == 1


def test_the_parsers_here_read_caffes_own_log():
    """What the other tests lean on: the rewritten parsers themselves."""
    # The recorded prefix has a year, which parsers of Caffe's day do not know.
    text = re.sub(r"(?m)^([IWEF])2026(\d{4} )", r"\1\2", GOLDEN.read_text())
    table = log_parsers.parse_log_py(text)
    assert table.test[500] == {"accuracy": 0.977, "loss": 0.0676374}
    assert table.train[20]["LearningRate"] == 0.00998503
    shell = log_parsers.parse_log_sh(text)
    assert shell.test[500] == {"accuracy": 0.977, "loss": 0.0676374}
    assert shell.train[480] == {"lr": 0.00965448, "loss": 0.0188738}
    seen = log_parsers.digits(text)
    assert seen.snapshots == [250, 500]
    assert len(seen.rates) == 25
    assert log_parsers.seconds(text)[-1] == pytest.approx(17.861068)
