"""A tiny model that a few ranks train in one process, each in a thread of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.comm.cluster import Attachment, Cluster
from poseidon_caffe.comm.fake import Delay, FakeNetwork
from poseidon_caffe.comm.model import Model
from poseidon_caffe.comm.settings import ClusterSettings
from poseidon_caffe.net.hooks import DONE, ParamSlot
from poseidon_caffe.types import Array, RowPiece
from tests.comm.couriers import UnkindTransport, on_threads

ROWS = 3  # factor rows of a pass
RATE, MOMENTUM = 0.05, 0.9


class Momentum:
    """The RowUpdater of SGD with momentum, in the plainest way."""

    history_count = 1

    def __init__(self, blobs: Sequence[Blob]) -> None:
        self.history = [np.zeros(blob.count, blob.dtype) for blob in blobs]
        self.applied: list[tuple[int, int]] = []

    def history_of(self, slot: int) -> tuple[Array, ...]:
        return (self.history[slot],)

    def apply(self, iteration: int, pieces: Sequence[RowPiece], scale: float) -> None:
        for piece in pieces:
            self.applied.append((iteration, piece.slot))
            (history,) = piece.history
            history *= MOMENTUM
            history += RATE * (piece.diff * piece.diff.dtype.type(scale))
            data = piece.data
            data -= history


@dataclass
class Product:
    """An inner product's factors: what a layer's backward left."""

    defer_gradient: bool = False
    held: tuple[Array, Array] | None = None

    def factors(self) -> tuple[Array, Array] | None:
        return self.held


@dataclass
class Tiny:
    """Parameters of a few layers: (weights (M, K), bias (M,)) each.

    The gradient of a worker is a function of the values, the worker and the
    iteration, so that any stale or torn value shows in the result.

    Attributes:
        widths: inputs of the layers, and outputs of the last.
        dtype: of everything.
        statistics: whether one more layer has eleven running means.
        dense: layers that offer no factors.
        still: slots whose lr_mult is 0; they move all the same.
        frozen: slots whose lr_mult is 0 and that never move.
        is_forced: gradients of both count in the norm.
        norms: of the gradient of each iteration of `alone`.
    """

    widths: tuple[int, ...] = (40, 30, 50, 7)
    dtype: type = np.float64
    statistics: bool = False
    dense: tuple[int, ...] = ()
    still: tuple[int, ...] = ()
    frozen: tuple[int, ...] = ()
    is_forced: bool = False
    slots: list[ParamSlot] = field(default_factory=list)
    blobs: list[Blob] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        draw = np.random.default_rng(3)
        self.products = [Product() for _ in self.widths[1:]]
        for layer, (inputs, outputs) in enumerate(
            zip(self.widths, self.widths[1:], strict=False)
        ):
            for k, shape in enumerate(((outputs, inputs), (outputs,))):
                self._add(layer, k, shape, draw)
        if self.statistics:
            self._add(len(self.widths) - 1, 0, (11,), draw, statistics=True)
        self.updater = Momentum(self.blobs)
        self.local = self.updater

    def _add(
        self,
        layer: int,
        k: int,
        shape: tuple[int, ...],
        draw: np.random.Generator,
        *,
        statistics: bool = False,
    ) -> None:
        blob = Blob(shape, dtype=self.dtype)
        blob.data[...] = draw.normal(size=shape)
        is_dense = bool(k) or statistics or layer in self.dense
        source = None if is_dense else self.products[layer]
        is_still = statistics or len(self.slots) in (*self.still, *self.frozen)
        self.slots.append(
            ParamSlot(
                len(self.blobs), f"ip{layer}/{k}", layer, k, shape,
                0.0 if is_still else 1.0, 1.0, (layer,), layer, source, statistics,
            )
        )  # fmt: skip
        self.blobs.append(blob)

    @property
    def layers(self) -> int:
        return max(slot.owner for slot in self.slots) + 1

    def factors(self, layer: int, worker: int, iteration: int, part: int) -> None:
        """What the layer's backward leaves in a pass: depends on the weights."""
        weights, product = self.blobs[2 * layer].data, self.products[layer]
        draw = np.random.default_rng((layer, worker, iteration, part))
        top = draw.normal(size=(ROWS, weights.shape[0])) + weights[:, 0]
        bottom = draw.normal(size=(ROWS, weights.shape[1])) + weights[0]
        product.held = (top.astype(self.dtype), bottom.astype(self.dtype))

    def backward(self, layer: int) -> None:
        """Add the pass's gradient to the diffs, as a layer does."""
        product = self.products[layer]
        if product.defer_gradient:
            return
        assert product.held is not None
        top, bottom = product.held
        for blob, value in zip(
            self.blobs[2 * layer : 2 * layer + 2],
            (top.T @ bottom, top.sum(axis=0)),
            strict=True,
        ):
            target, accumulate = blob.gradient_target()
            target[...] = target + value if accumulate else value

    def statistics_step(self, worker: int, iteration: int) -> None:
        blob = self.blobs[-1]
        blob.data[...] = 0.9 * blob.data + np.sin(np.arange(11) + worker + iteration)

    def model(self, **settings: object) -> Model:
        def rebuild(x: Array, dy: Array, dw: Array, db: Array | None) -> None:
            np.matmul(dy.T, x, out=dw)
            if db is not None:
                np.sum(dy, axis=0, out=db)

        rows = {slot.index: ROWS for slot in self.slots if slot.source is not None}
        settings = {
            "frozen": frozenset(self.frozen), "counts_still": self.is_forced, **settings
        }  # fmt: skip
        return Model(
            self.slots, self.blobs, self.updater, self.local, rebuild, rows, **settings
        )  # type: ignore[arg-type]

    def state(self) -> Array:
        return np.concatenate([blob.data.reshape(-1) for blob in self.blobs])


def alone(
    tiny: Tiny, workers: int, iterations: int, passes: int = 1, clip: float = -1.0
) -> Array:
    """What one process computes that does all the workers' work in turn."""
    for iteration in range(iterations):
        sums = [np.zeros_like(blob.data) for blob in tiny.blobs]
        means = np.zeros(11, tiny.dtype)
        for worker in range(workers):
            for blob in tiny.blobs:
                blob.clear_diff()
            for layer in reversed(range(len(tiny.products))):
                for part in range(passes):
                    tiny.factors(layer, worker, iteration, part)
                    tiny.backward(layer)
            for k, blob in enumerate(tiny.blobs):
                sums[k] += blob.diff
            if tiny.statistics:
                before = tiny.blobs[-1].data.copy()
                tiny.statistics_step(worker, iteration)
                means += tiny.blobs[-1].data
                tiny.blobs[-1].data[...] = before
        _update(tiny, sums, iteration, workers, passes, clip)
        if tiny.statistics:
            tiny.blobs[-1].data[...] = means * (1 / workers)
    return tiny.state()


def _update(
    tiny: Tiny,
    sums: Sequence[Array],
    iteration: int,
    workers: int,
    passes: int,
    clip: float,
) -> None:
    norm = norm_of(tiny, sums) / workers
    tiny.norms.append(norm)
    factor = clip / norm if 0 <= clip < norm else 1.0
    for slot in tiny.slots:
        if slot.statistics or slot.index in tiny.frozen:
            continue
        data = tiny.blobs[slot.index].data.reshape(-1)
        gradient = sums[slot.index].reshape(-1)
        history = tiny.updater.history_of(slot.index)
        piece = RowPiece(slot.index, data, gradient, history)
        tiny.updater.apply(iteration, [piece], factor / (workers * passes))


def norm_of(tiny: Tiny, gradients: Sequence[Array]) -> float:
    """The norm of what is learned, or of everything."""
    learned = [slot.index for slot in tiny.slots if slot.lr_mult or tiny.is_forced]
    return math.sqrt(sum(float((gradients[k] ** 2).sum()) for k in learned))


def drive(
    tiny: Tiny,
    attached: Attachment,
    worker: int,
    iterations: int,
    passes: int = 1,
    before_layer: Callable[[int, int], None] = lambda iteration, layer: None,
) -> None:
    """Train as the solver and the net do."""
    observer, sync = attached.observer, attached.sync
    assert observer is not None
    assert sync is not None
    first = observer.iteration
    for iteration in range(first, first + iterations):
        for blob in tiny.blobs:
            blob.clear_diff()
        for part in range(passes):
            for layer in range(tiny.layers):
                observer.before_forward(layer)
                before_layer(iteration, layer)
            if tiny.statistics and part == passes - 1:
                tiny.statistics_step(worker, iteration)
            for layer in reversed(range(tiny.layers)):
                if layer < len(tiny.products):
                    tiny.factors(layer, worker, iteration, part)
                    tiny.backward(layer)
                for slot in tiny.slots:
                    if slot.ready_after == layer:
                        if part == passes - 1:
                            observer.grad_ready(slot, DONE)
                        elif slot.source is not None:
                            observer.factors_ready(slot)
        observer.backward_done()
        sync.agree(0)
    for slot in tiny.slots:
        sync.wait(slot.index)


def together(
    size: int,
    settings: ClusterSettings,
    work: Callable[[int, Cluster], Any],
    *,
    delay_s: tuple[float, float] | Delay = (0.0, 0.0),
    seed: int = 0,
    eager_bytes: float = 4096,
    timeout_s: float = 60.0,
) -> list[Any]:
    """Run ``work(rank, cluster)`` on every rank of a fake network; their results.

    The first failure is raised; it ends the whole network.
    """
    network = FakeNetwork(size, seed=seed, delay_s=delay_s, eager_bytes=eager_bytes)

    def run(rank: int) -> Any:
        transport = UnkindTransport(network, rank, seed)
        cluster = Cluster(transport, settings, lambda text: None)
        result = work(rank, cluster)
        cluster.close()
        return result

    return on_threads(network, run, timeout_s)


def trained(
    size: int,
    settings: ClusterSettings,
    iterations: int,
    *,
    passes: int = 1,
    clip: float = -1.0,
    make: Callable[[], Tiny] = Tiny,
    on_clip: Callable[[int, float, float], None] | None = None,
    **network: Any,
) -> list[Tiny]:
    """The models of all ranks, servers included, after a training as `alone`'s."""

    def work(rank: int, cluster: Cluster) -> Tiny:
        tiny = make()
        model = tiny.model(iter_size=passes, clip_gradients=clip, on_clip=on_clip)
        attached = cluster.attach(model)
        if attached.sync is None:
            cluster.serve()
        else:
            drive(tiny, attached, rank, iterations, passes)
            attached.sync.finish()
        return tiny

    return together(size, settings, work, **network)
