"""``poseidon time``: how long each layer takes, forward and backward."""

from __future__ import annotations

from poseidon_caffe.cli.caffe_flags import (
    ITERATIONS,
    LEVEL,
    MODEL,
    PHASE,
    STAGE,
    WEIGHTS,
    with_idle,
)
from poseidon_caffe.cli.flags import Arguments, Command
from poseidon_caffe.cli.gpu_flags import GPU_FLAGS, asked_gpus
from poseidon_caffe.cli.threads import THREADS, prepare
from poseidon_caffe.report.glog import Glog

__all__ = ["COMMAND", "run"]


def run(args: Arguments, log: Glog) -> int:
    """Check the flags, then measure.

    Raises:
        UsageError: flags that are missing or wrong.
    """
    args.required("model", "name the net's prototxt, --model FILE")
    asked_gpus(args)
    threads = prepare(args.integer("threads"))
    # NumPy and its thread pools load here, after the environment is set.
    from poseidon_caffe.cli.timing import measure

    return measure(args, log, threads)


COMMAND = Command(
    name="time",
    summary="measure the time of each layer, forward and backward",
    run=run,
    flags=with_idle(
        "time", (MODEL, ITERATIONS, WEIGHTS, THREADS, PHASE, LEVEL, STAGE, *GPU_FLAGS)
    ),
    description=(
        "The net is built in phase TRAIN unless --phase says otherwise. One pass "
        "before the measured ones makes kernels and fills caches."
    ),
    examples=("poseidon time --model models/alexnet/train_val.prototxt",),
)
