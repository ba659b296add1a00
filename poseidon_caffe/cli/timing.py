"""The work of ``poseidon time``: Caffe's per-layer and average lines."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from poseidon_caffe.backend.protocols import Ops
from poseidon_caffe.cli.flags import Arguments
from poseidon_caffe.cli.gpus import single_gpu
from poseidon_caffe.cli.models import load_weights, open_net, open_ops
from poseidon_caffe.errors import UsageError
from poseidon_caffe.net.net import Net
from poseidon_caffe.report import tags
from poseidon_caffe.report.glog import Glog, format_g
from poseidon_caffe.types import Phase

__all__ = ["Times", "measure"]


@dataclass
class Times:
    """Milliseconds summed over iterations, per layer and in all.

    Attributes:
        forward_ms, backward_ms: per layer.
        passes_ms: [all forward passes, all backward passes].
        total_ms: from the first iteration's start to the last one's end.
    """

    forward_ms: list[float]
    backward_ms: list[float]
    passes_ms: list[float] = field(default_factory=lambda: [0.0, 0.0])
    total_ms: float = 0.0


def measure(args: Arguments, log: Glog, threads: int) -> int:
    """Time the net that ``args`` describe; the exit code.

    Raises:
        UsageError: ``--iterations`` is not positive.
        PoseidonError: the net or its data are wrong.
    """
    iterations = args.integer("iterations")
    if iterations < 1:
        raise UsageError(f"--iterations: expected 1 or more, received {iterations}")
    ops = open_ops(log, threads, single_gpu(args, log, tag=tags.TIME_GPU))
    net = open_net(args, log, ops, Phase.TRAIN)
    try:
        load_weights(args, log, net)
        _warm_up(log, net)
        log.info(tags.TIME, "*** Benchmark begins ***")
        log.info(tags.TIME, f"Testing for {iterations} iterations.")
        times = _benchmark(log, net, iterations, _settler(ops))
    finally:
        net.close()
    _report(log, net, times, iterations)
    return 0


def _warm_up(log: Glog, net: Net) -> None:
    """One pass that is not counted: kernels are made, memory is touched."""
    log.info(tags.TIME, "Performing Forward")
    log.info(tags.TIME, f"Initial loss: {format_g(net.forward())}")
    log.info(tags.TIME, "Performing Backward")
    net.backward()


def _settler(ops: Ops) -> Callable[[], None]:
    """What waits until the work given so far is done; on the CPU it always is."""
    device = getattr(ops, "device", None)
    if device is None:
        return lambda: None
    wait: Callable[[], None] = device.synchronise
    return wait


def _benchmark(
    log: Glog, net: Net, iterations: int, settle: Callable[[], None]
) -> Times:
    count = len(net.layers)
    times = Times([0.0] * count, [0.0] * count)

    def forward(layer: int) -> None:
        net.forward(layer, layer)
        settle()

    def backward(layer: int) -> None:
        net.backward(layer, layer)
        settle()

    settle()
    begin = time.perf_counter()
    for iteration in range(iterations):
        start = time.perf_counter()
        net.clear_param_diffs()
        times.passes_ms[0] += _walk(range(count), forward, times.forward_ms)
        backwards = range(count - 1, -1, -1)
        times.passes_ms[1] += _walk(backwards, backward, times.backward_ms)
        spent = _ms_since(start)
        log.info(
            tags.TIME,
            f"Iteration: {iteration + 1} forward-backward time: {format_g(spent)} ms.",
        )
    times.total_ms = _ms_since(begin)
    return times


def _walk(layers: range, run: Callable[[int], object], sums_ms: list[float]) -> float:
    """Run each of ``layers``, add its time to ``sums_ms``; the whole time in ms."""
    start = last = time.perf_counter()
    for index in layers:
        run(index)
        now = time.perf_counter()
        sums_ms[index] += 1e3 * (now - last)
        last = now
    return 1e3 * (last - start)


def _ms_since(start: float) -> float:
    return 1e3 * (time.perf_counter() - start)


def _report(log: Glog, net: Net, times: Times, iterations: int) -> None:
    def say(text: str, total_ms: float) -> None:
        log.info(tags.TIME, f"{text}: {format_g(total_ms / iterations)} ms.")

    log.info(tags.TIME, "Average time per layer: ")
    for index, name in enumerate(net.layer_names):
        say(f"{name:>10}\tforward", times.forward_ms[index])
        say(f"{name:>10}\tbackward", times.backward_ms[index])
    say("Average Forward pass", times.passes_ms[0])
    say("Average Backward pass", times.passes_ms[1])
    say("Average Forward-Backward", times.total_ms)
    say("Total Time", times.total_ms * iterations)
    log.info(tags.TIME, "*** Benchmark ends ***")
