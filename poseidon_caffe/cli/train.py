"""``poseidon train``: train a net, from scratch, from weights or a snapshot."""

from __future__ import annotations

import os
from typing import Final

from poseidon_caffe.cli.caffe_flags import (
    LEVEL,
    STAGE,
    WEIGHTS,
    with_idle,
)
from poseidon_caffe.cli.cluster_flags import (
    CLUSTER_FLAGS,
    check_cluster_flags,
    given_cluster_flags,
)
from poseidon_caffe.cli.common import COMMON
from poseidon_caffe.cli.flags import Arguments, Command, Flag
from poseidon_caffe.cli.gpu_flags import GPU_FLAGS, asked_gpus
from poseidon_caffe.cli.hostfile import advice, read_hosts
from poseidon_caffe.cli.launched import launched
from poseidon_caffe.cli.threads import THREADS, prepare
from poseidon_caffe.errors import UsageError
from poseidon_caffe.report import tags
from poseidon_caffe.report.glog import Glog

__all__ = ["COMMAND", "run"]

_EFFECTS: Final = ("stop", "snapshot", "none")
_START: Final = "Where to start"
_SIGNALS: Final = "Signals"

FLAGS: Final = (
    Flag("solver", "", "the solver's prototxt", value="FILE"),
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
        "snapshot_after_train is off); a second Ctrl-C aborts; under mpirun, which "
        "itself ends its ranks at Ctrl-C, send mpirun SIGUSR1 instead",
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
    *GPU_FLAGS,
    *CLUSTER_FLAGS,
)


def run(args: Arguments, log: Glog) -> int:
    """Check the flags, then train.

    Raises:
        UsageError: flags that are missing or exclude each other.
    """
    args.required("solver", "name the solver's prototxt, --solver FILE")
    asked_gpus(args)
    _check_start(args)
    check_cluster_flags(args)
    world = launched()
    if args.text("hostfile"):
        said = advice(read_hosts(args.text("hostfile")), world.size)
        log.warning(tags.POSEIDON, f"--hostfile {said}")
    # A rank of its own chooses its own threads.
    environment = dict(os.environ)
    threads = prepare(args.integer("threads"), local_ranks=world.local_size)
    # NumPy and its thread pools load here, after the environment is set.
    if not world.is_alone:
        from poseidon_caffe.cli.cluster import train_together

        return train_together(args, log, threads)
    from poseidon_caffe.cli.gpus import listed_gpus

    devices = [gpu.device for gpu in listed_gpus(args)]
    if len(devices) > 1:
        from poseidon_caffe.cli.local_ranks import train_on

        return train_on(devices, args, _passed_on(args, devices), environment, log)
    from poseidon_caffe.cli.training import Training

    _note_idle(args, log)
    return Training(args, log, threads).run()


def _passed_on(args: Arguments, devices: list[int]) -> list[str]:
    """The flags that were given, as a rank is to get them; idle ones were told."""
    known = {flag.name: flag for flag in (*COMMAND.flags, *COMMON)}
    given = [name for name in sorted(args.given) if name in known]
    values = dict(args.values) | {"gpu": ",".join(map(str, devices))}
    return [f"--{name}={values[name]}" for name in given if not known[name].warning]


def _note_idle(args: Arguments, log: Glog) -> None:
    """One line when flags of a cluster are given to a process that is alone."""
    given = given_cluster_flags(args)
    if given:
        named = ", ".join(f"--{name}" for name in given)
        log.info(
            tags.POSEIDON,
            f"{named}: no effect in one process; several train together under "
            "mpirun -n N poseidon train ...",
        )


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
        "relative to the working directory.\n\nUnder mpirun all ranks train one model: "
        "each takes its share of the records, rank 0 logs and writes the snapshots."
    ),
    examples=(
        "poseidon train --solver models/lenet/digits_solver.prototxt",
        "poseidon train --solver solver.prototxt --weights bvlc_alexnet.caffemodel",
        "poseidon train --solver solver.prototxt --snapshot s_iter_100.solverstate",
        "poseidon train --solver solver.prototxt --resume auto",
        "poseidon train --solver solver.prototxt --gpu all --precision bf16",
        "mpirun -n 4 --hostfile hosts poseidon train --solver solver.prototxt",
    ),
    clustered=True,
)
