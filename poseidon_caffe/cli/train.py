"""``poseidon train``: train a net, from scratch, from weights or a snapshot."""

from __future__ import annotations

from typing import Final

from poseidon_caffe.cli.caffe_flags import (
    GPU,
    LEVEL,
    STAGE,
    WEIGHTS,
    refuse_gpu,
    with_idle,
)
from poseidon_caffe.cli.flags import Arguments, Command, Flag
from poseidon_caffe.cli.threads import THREADS, prepare
from poseidon_caffe.errors import UsageError
from poseidon_caffe.report.glog import Glog

__all__ = ["COMMAND", "run"]

_EFFECTS: Final = ("stop", "snapshot", "none")
_START: Final = "Where to start"
_SIGNALS: Final = "Signals"

FLAGS: Final = (
    Flag("solver", "", "the solver's prototxt", value="FILE"),
    GPU,
    THREADS,
    Flag("progress", True, "draw no progress line on a terminal"),
    Flag(
        "weights",
        "",
        WEIGHTS.help.replace("trained weights", "weights to fine-tune"),
        value=WEIGHTS.value,
        group=_START,
    ),
    Flag(
        "snapshot",
        "",
        "solver state to go on from",
        value="FILE.solverstate",
        group=_START,
    ),
    Flag(
        "resume",
        "",
        "'auto' goes on from the newest whole snapshot of the solver's "
        "snapshot_prefix, or starts afresh when there is none",
        choices=("", "auto"),
        group=_START,
    ),
    LEVEL,
    STAGE,
    Flag(
        "sigint_effect",
        "stop",
        "what Ctrl-C does: 'stop' ends training after a snapshot (unless "
        "snapshot_after_train is off); a second Ctrl-C aborts",
        choices=_EFFECTS,
        group=_SIGNALS,
    ),
    Flag(
        "sighup_effect",
        "snapshot",
        "what SIGHUP does",
        choices=_EFFECTS,
        group=_SIGNALS,
    ),
)


def run(args: Arguments, log: Glog) -> int:
    """Check the flags, then train.

    Raises:
        UsageError: flags that are missing or exclude each other.
    """
    args.required("solver", "name the solver's prototxt, --solver FILE")
    refuse_gpu(args)
    _check_start(args)
    threads = prepare(args.integer("threads"))
    # NumPy and its thread pools load here, after the environment is set.
    from poseidon_caffe.cli.training import Training

    return Training(args, log, threads).run()


def _check_start(args: Arguments) -> None:
    """At most one of --weights, --snapshot, and the right kind of file."""
    given = [name for name in ("weights", "snapshot") if args.text(name)]
    if len(given) > 1:
        raise UsageError(
            "--weights and --snapshot exclude each other: a snapshot holds its weights"
        )
    snapshot = args.text("snapshot")
    if snapshot and args.text("resume"):
        raise UsageError("--resume and --snapshot exclude each other: give one")
    if snapshot.endswith((".caffemodel", ".caffemodel.h5")):
        raise UsageError(
            f"--snapshot={snapshot}: that is a file of weights; --snapshot takes the "
            ".solverstate beside it (to fine-tune from weights use --weights)"
        )


COMMAND = Command(
    name="train",
    summary="train a net, or fine-tune it, or go on from a snapshot",
    run=run,
    flags=with_idle("train", FLAGS),
    description=(
        "Logs Caffe's lines on stderr and writes PREFIX_iter_N.caffemodel and "
        "PREFIX_iter_N.solverstate as the solver says. Paths in the prototxts are "
        "relative to the working directory."
    ),
    examples=(
        "poseidon train --solver models/lenet/digits_solver.prototxt",
        "poseidon train --solver solver.prototxt --weights bvlc_alexnet.caffemodel",
        "poseidon train --solver solver.prototxt --snapshot s_iter_100.solverstate",
        "poseidon train --solver solver.prototxt --resume auto",
    ),
)
