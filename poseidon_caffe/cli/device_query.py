"""``poseidon device_query``: what this machine, or one of its GPUs, computes with."""

from __future__ import annotations

from poseidon_caffe.cli.caffe_flags import with_idle
from poseidon_caffe.cli.flags import Arguments, Command, Flag
from poseidon_caffe.cli.gpu_flags import asked_gpus
from poseidon_caffe.cli.threads import THREADS, prepare
from poseidon_caffe.report.glog import Glog

__all__ = ["COMMAND", "run"]

_GPU = Flag("gpu", "", "GPUs to tell all about, or 'all'", value="0,1|all")


def run(args: Arguments, log: Glog) -> int:
    """Log the processor, memory and compute library, or the GPUs of ``--gpu``.

    Raises:
        UsageError: ``--gpu`` is neither numbers nor ``all``.
        GpuError: there is no such GPU.
    """
    asked = asked_gpus(args)
    threads = prepare(args.integer("threads"))
    # NumPy and its thread pools load here, after the environment is set.
    if asked != ():
        from poseidon_caffe.cli.gpu_lines import describe_gpus

        return describe_gpus(args, log)
    from poseidon_caffe.cli.devices import describe

    return describe(log, threads)


COMMAND = Command(
    name="device_query",
    summary="show the processor, memory and compute library in use, or GPUs",
    run=run,
    flags=with_idle("device_query", (_GPU, THREADS)),
    examples=("poseidon device_query", "poseidon device_query --gpu all"),
)
