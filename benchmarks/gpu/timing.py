"""Milliseconds that a GPU takes, without what Python takes to ask for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

__all__ = ["device_ms", "limits", "tensor"]

_REPEATS, _ROUNDS = 10, 5


def device_ms(ops: Any, work: Callable[[], None], *, record: bool = True) -> float:
    """Median milliseconds of ``work``, repeated inside one CUDA graph.

    Args:
        ops: the GPU backend.
        work: gives kernels to the compute stream; it has run before.
        record: by a graph; else by itself, and Python's time counts where it is more.
    """
    work()
    times = []
    if record and ops.captures:

        def repeat() -> None:
            for _ in range(_REPEATS):
                work()

        run = ops.capture(repeat).run
    else:

        def run() -> None:
            for _ in range(_REPEATS):
                work()

    run()
    ops.device.synchronise()
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        run()
        ops.device.synchronise()
        times.append((time.perf_counter() - start) * 1e3 / _REPEATS)
    return median(times)


def tensor(ops: Any, shape: tuple[int, ...], dtype: Any, *, last: bool = True) -> Any:
    """Random numbers on the device, as wide as activations are."""
    from poseidon_caffe.backend.memory import view_of

    count = int(np.prod(shape))
    values = np.random.default_rng(1).standard_normal(count, np.float32)
    raw = ops.memory.zeros(count, np.float32)
    ops.memory.upload(values, raw)
    last = last and len(shape) == 4
    made = view_of(raw, shape, channels_last=last)
    if np.dtype(dtype) == np.float32:
        return made
    narrow = view_of(ops.memory.zeros(count, dtype), shape, channels_last=last)
    ops.copy(made, narrow)
    return narrow


def limits(ops: Any, *, tiny: bool = False) -> dict[str, float]:
    """GB/s of a large copy and TFLOP/s of a large product in float32."""
    floats, side = (1 << 10, 32) if tiny else (1 << 28, 8192)
    source, target = (ops.memory.zeros(floats, np.float32) for _ in range(2))
    copy_ms = device_ms(ops, lambda: ops.copy(source, target))
    a, b, c = (tensor(ops, (side, side), np.float32) for _ in range(3))
    product_ms = device_ms(ops, lambda: ops.gemm(a, b, c))
    return {
        "copy_gb_s": 8 * floats / copy_ms / 1e6,
        "product_tflop_s": 2 * side**3 / product_ms / 1e9,
    }
