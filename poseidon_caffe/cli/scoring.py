"""The work of ``poseidon test``: forward passes and their means, in Caffe's lines."""

from __future__ import annotations

from dataclasses import replace

from poseidon_caffe.cli.flags import Arguments
from poseidon_caffe.cli.gpus import single_gpu
from poseidon_caffe.cli.models import load_weights, open_net, open_ops
from poseidon_caffe.errors import UsageError
from poseidon_caffe.net.net import Net
from poseidon_caffe.report import tags
from poseidon_caffe.report.glog import Glog, format_g
from poseidon_caffe.report.listener import loss_suffix
from poseidon_caffe.solver.events import OutputValue
from poseidon_caffe.solver.testing import output_values
from poseidon_caffe.types import Phase

__all__ = ["score"]


def score(args: Arguments, log: Glog, threads: int) -> int:
    """Score the net that ``args`` describe; the exit code.

    Raises:
        UsageError: ``--iterations`` is not positive.
        PoseidonError: the net, its weights or its data are wrong.
    """
    iterations = args.integer("iterations")
    if iterations < 1:
        raise UsageError(f"--iterations: expected 1 or more, received {iterations}")
    ops = open_ops(log, threads, single_gpu(args, log, tag=tags.TEST_GPU))
    net = open_net(args, log, ops, Phase.TEST, forward_only=True)
    try:
        load_weights(args, log, net)
        log.info(tags.TEST_RUNS, f"Running for {iterations} iterations.")
        _run(log, net, iterations)
    finally:
        net.close()
    return 0


def _run(log: Glog, net: Net, iterations: int) -> None:
    """Every batch in a line per output value, then the means."""
    loss, sums = 0.0, list[OutputValue]()
    for batch in range(iterations):
        loss += net.forward()
        values = output_values(net)
        for value in values:
            text = f"Batch {batch}, {value.name} = {format_g(value.value)}"
            log.info(tags.TEST_BATCH, text)
        sums = [_plus(a, b) for a, b in zip(sums, values, strict=False)] or values
    log.info(tags.TEST_LOSS_MEAN, f"Loss: {format_g(loss / iterations)}")
    for total in sums:
        mean = total.value / iterations
        suffix = loss_suffix(mean, total.loss_weight)
        log.info(tags.TEST_MEAN, f"{total.name} = {format_g(mean)}{suffix}")


def _plus(total: OutputValue, value: OutputValue) -> OutputValue:
    return replace(total, value=total.value + value.value)
