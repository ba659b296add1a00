"""``poseidon device_query``: what this machine computes with."""

from __future__ import annotations

from poseidon_caffe.cli.caffe_flags import GPU, refuse_gpu, with_idle
from poseidon_caffe.cli.flags import Arguments, Command
from poseidon_caffe.cli.threads import THREADS, prepare
from poseidon_caffe.report.glog import Glog

__all__ = ["COMMAND", "run"]


def run(args: Arguments, log: Glog) -> int:
    """Log the processor, memory and compute library.

    Raises:
        UsageError: a GPU is asked about.
    """
    refuse_gpu(args)
    threads = prepare(args.integer("threads"))
    # NumPy and its thread pools load here, after the environment is set.
    from poseidon_caffe.cli.devices import describe

    return describe(log, threads)


COMMAND = Command(
    name="device_query",
    summary="show the processor, memory and compute library in use",
    run=run,
    flags=with_idle("device_query", (GPU, THREADS)),
    examples=("poseidon device_query",),
)
