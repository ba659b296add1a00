"""A net that sleeps instead of computing, seen by a cluster as a real one."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.cluster.workload import LayerWork, Workload
from poseidon_caffe.net.hooks import DONE, NetObserver, ParamSlot
from poseidon_caffe.types import Array, RowPiece, Shape

__all__ = ["Device", "EmulatedNet", "IdleUpdater", "Memory", "make_slot"]

# Sleeping ends late by about this much; what is less does not add up over layers.
_LATE_S = 2e-4
# Of a backward pass, what the gradients of the weights take.
_WEIGHTS_SHARE = 0.5


class Device:
    """Computes by sleeping, one thing after the other.

    Attributes:
        busy_s: all that it computed.
    """

    def __init__(self) -> None:
        self.busy_s = 0.0
        self._free_s = time.perf_counter()

    def compute(self, seconds: float) -> None:
        """Return when work of so many seconds, begun now, is done."""
        now_s = time.perf_counter()
        if now_s - self._free_s > _LATE_S:
            self._free_s = now_s
        self._free_s += seconds
        self.busy_s += seconds
        rest_s = self._free_s - time.perf_counter()
        if rest_s > 0:
            time.sleep(rest_s)


class Memory:
    """A parameter's values and gradient, as much of a Blob as a cluster needs."""

    def __init__(self, shape: Shape) -> None:
        self._data = np.zeros(shape, np.float32)
        self._diff = np.zeros(shape, np.float32)

    @property
    def data(self) -> Array:
        """Values."""
        return self._data

    @property
    def diff(self) -> Array:
        """Gradient."""
        return self._diff

    def touch(self) -> None:
        """Nobody keeps anything made of the values."""


class IdleUpdater:
    """A solver whose update takes no time."""

    history_count = 0

    def history_of(self, slot: int) -> tuple[Array, ...]:
        """No history."""
        return ()

    def apply(self, iteration: int, pieces: Sequence[RowPiece], scale: float) -> None:
        """Nothing to do."""


@dataclass
class _Factors:
    """An inner product's factors: numbers that do not matter."""

    top_diff: Array
    bottom: Array
    defer_gradient: bool = False
    offers_factors: bool = True

    def factors(self) -> tuple[Array, Array]:
        """(top diff (M, N), bottom (M, K))."""
        return self.top_diff, self.bottom


def make_slot(
    index: int,
    name: str,
    layer: int,
    shape: Shape,
    *,
    param_index: int = 0,
    source: _Factors | None = None,
) -> ParamSlot:
    """A slot that one layer uses."""
    return ParamSlot(
        index=index,
        name=name,
        owner=layer,
        param_index=param_index,
        shape=shape,
        lr_mult=1.0,
        decay_mult=1.0,
        users=(layer,),
        ready_after=layer,
        source=source,
    )


class EmulatedNet:
    """Runs a workload's passes on a sleeping device, telling an observer.

    Args:
        work: layers with their times.

    Attributes:
        slots, blobs: weights and bias of each layer.
        factor_rows: rows of factors by slot index.
        device: that computes.
    """

    def __init__(self, work: Workload) -> None:
        self._work, self.device = work, Device()
        self.slots: list[ParamSlot] = []
        self.blobs: list[Memory] = []
        self.factor_rows: dict[int, int] = {}
        self._sources: list[_Factors | None] = []
        self._ready: defaultdict[int, list[ParamSlot]] = defaultdict(list)
        # A rebuild is known by the memory it writes to.
        self._rebuilt: dict[int, LayerWork] = {}
        for i, layer in enumerate(work.layers):
            self._add(i, layer)

    def _add(self, i: int, layer: LayerWork) -> None:
        outputs, source = layer.weights[0], None
        if layer.is_product:
            source = _Factors(
                np.zeros((self._work.batch, outputs), np.float32),
                np.zeros((self._work.batch, layer.weights[1]), np.float32),
            )
            self.factor_rows[len(self.slots)] = self._work.batch
        self._sources.append(source)
        for k, shape in enumerate((layer.weights, (outputs,))):
            slot = make_slot(
                len(self.slots), f"{layer.name}/{k}", i, shape,
                param_index=k, source=source if k == 0 else None,
            )  # fmt: skip
            self.slots.append(slot)
            self.blobs.append(Memory(shape))
            self._ready[i].append(slot)
        self._rebuilt[_address(self.blobs[-2].diff)] = layer

    def iterate(self, observer: NetObserver) -> None:
        """One forward and one backward pass, as `Net.forward_backward` has them."""
        for i, layer in enumerate(self._work.layers):
            observer.before_forward(i)
            self.device.compute(layer.forward_s)
        for i in reversed(range(len(self._work.layers))):
            self.device.compute(self._backward_s(i))
            for slot in self._ready[i]:
                observer.grad_ready(slot, DONE)
        observer.backward_done()

    def _backward_s(self, i: int) -> float:
        source, seconds = self._sources[i], self._work.layers[i].backward_s
        if source is not None and source.defer_gradient:
            return seconds * (1 - _WEIGHTS_SHARE)
        return seconds

    def rebuild(
        self, bottoms: Array, top_diffs: Array, gradient: Array, bias: Array | None
    ) -> None:
        """Take as long as the product of all workers' factors would.

        The rows of one batch take what they take in backward, where writing the
        gradient counts most; further rows cost arithmetic, at the net's mean rate.
        """
        layer = self._rebuilt[_address(gradient)]
        further = len(bottoms) - self._work.batch
        self.device.compute(
            layer.backward_s * _WEIGHTS_SHARE
            + further * layer.flops / self._work.flops_per_s
        )

    @property
    def payload_bytes(self) -> int:
        """Of all parameters."""
        return sum(4 * math.prod(slot.shape) for slot in self.slots)


def _address(array: Array) -> int:
    address: int = array.__array_interface__["data"][0]
    return address
