"""``poseidon test``: score a trained net."""

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
    """Check the flags, then score.

    Raises:
        UsageError: flags that are missing or wrong.
    """
    args.required("model", "name the net's prototxt, --model FILE")
    args.required("weights", "name the trained weights, --weights FILE")
    asked_gpus(args)
    threads = prepare(args.integer("threads"))
    # NumPy and its thread pools load here, after the environment is set.
    from poseidon_caffe.cli.scoring import score

    return score(args, log, threads)


COMMAND = Command(
    name="test",
    summary="score a trained net: every batch and the means",
    run=run,
    flags=with_idle(
        "test", (MODEL, WEIGHTS, ITERATIONS, THREADS, PHASE, LEVEL, STAGE, *GPU_FLAGS)
    ),
    description="The net is built in phase TEST unless --phase says otherwise.",
    examples=(
        "poseidon test --model net.prototxt --weights net.caffemodel --iterations 9",
    ),
)
