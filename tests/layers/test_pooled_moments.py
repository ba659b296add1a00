"""N workers that pool their moments are one worker with N times the batch."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from poseidon_caffe.backend.reference import ReferenceOps
from poseidon_caffe.backend.select import get_ops
from poseidon_caffe.net.net import Net, NetOptions
from poseidon_caffe.schema.upgrade import parse_net
from poseidon_caffe.types import Phase
from tests.layers.harness import build

WORKERS, BATCH, SHAPE = 3, 4, (16, 5, 6)
KINDS = {"reference": (np.float64, 1e-10), "cpu": (np.float32, 1e-5)}


def ops_of(kind):
    return ReferenceOps() if kind == "reference" else get_ops("cpu", 1)


class Workers:
    """Threads that meet in ``sum``; it is added up in rank order."""

    def __init__(self, count=WORKERS):
        self.count = count
        self.calls = [0] * count
        self._given = [None] * count
        self._barrier = threading.Barrier(count, timeout=20)

    def pool(self, rank):
        return _Pool(self, rank)

    def add(self, rank, values):
        assert values.dtype == np.float64
        assert values.flags.c_contiguous
        self.calls[rank] += 1
        self._given[rank] = values.copy()
        self._barrier.wait()
        total = sum(self._given[1:], start=self._given[0].copy())
        self._barrier.wait()
        values[...] = total

    def run(self, work):
        """What ``work(rank)`` gives on every worker at once."""
        with ThreadPoolExecutor(self.count) as threads:
            return list(threads.map(work, range(self.count)))


class _Pool:
    def __init__(self, workers, rank):
        self._workers, self._rank = workers, rank

    def sum(self, values):
        self._workers.add(self._rank, values)


class Alone:
    """A pool of one worker, who counts."""

    calls = 0

    def sum(self, values):
        self.calls += 1


def norm(kind, batch=BATCH, text="", shape=SHAPE, **more):
    text = f"batch_norm_param {{ {text} }}"
    dtype = KINDS[kind][0]
    return build("BatchNorm", text, [(batch, *shape)], ops=ops_of(kind), dtype=dtype,
                 **more)  # fmt: skip


def records(count, shape=SHAPE, mean=2.0, seed=3):
    rng = np.random.default_rng(seed)
    return mean + 1.5 * rng.standard_normal((count, *shape))


def step(run, x, dy):
    """One pass: (top, bottom diff)."""
    run.bottom[0].data[...] = x
    y = run.forward()[0]
    run.top[0].diff[...] = dy
    return y, run.backward()[0]


def part(array, rank):
    return array[rank * BATCH : (rank + 1) * BATCH]


def pooled_runs(kind, workers, **more):
    runs = [norm(kind, **more) for _ in range(workers.count)]
    for rank, run in enumerate(runs):
        assert run.layer.set_pool(workers.pool(rank))
    return runs


def assert_close(got, want, tolerance):
    np.testing.assert_allclose(got, want, atol=tolerance * np.abs(want).max(), rtol=0)


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("shape", [SHAPE, (7,), (3, 2, 4, 2), ()])
@pytest.mark.parametrize("kind", KINDS)
def test_workers_equal_one_with_all_records(kind, shape, in_place):
    tolerance = KINDS[kind][1]
    workers, total = Workers(), WORKERS * BATCH
    runs = pooled_runs(kind, workers, shape=shape, in_place=in_place)
    one = norm(kind, total, shape=shape, in_place=in_place)
    for seed in (1, 2):
        x, dy = records(total, shape, seed=seed), records(total, shape, 0.3, seed + 9)
        y, dx = step(one, x, dy / WORKERS)
        # A worker's loss is a mean over its own records: N times the gradient.
        parts = workers.run(lambda r: step(runs[r], part(x, r), part(dy, r)))  # noqa: B023
        assert_close(np.concatenate([p[0] for p in parts]), y, tolerance)
        assert_close(np.concatenate([p[1] for p in parts]) / WORKERS, dx, tolerance)
    for run in runs:
        for got, want, first in zip(
            run.params(), one.params(), runs[0].params(), strict=True
        ):
            assert_close(got, want, tolerance)
            assert got.tobytes() == first.tobytes()
    assert workers.calls == [6] * WORKERS


@pytest.mark.parametrize("in_place", [False, True])
def test_a_relu_of_its_own_goes_with_it(in_place):
    """As the batch norm of all records and a ReLU after it."""
    workers, total = Workers(), WORKERS * BATCH
    runs = [norm("reference", in_place=in_place) for _ in range(WORKERS)]
    for rank, run in enumerate(runs):
        relu = build("ReLU", "", [(BATCH, *SHAPE)]).layer
        assert run.layer.can_fuse_relu(relu)
        run.layer.fuse_relu(relu)
        run.reshape()
        run.layer.set_pool(workers.pool(rank))
    x, dy = records(total), records(total, mean=0.3, seed=4)
    one = norm("reference", total, in_place=in_place)
    one.bottom[0].data[...] = x
    y = one.forward()[0]
    one.top[0].diff[...] = np.where(y > 0, dy, 0) / WORKERS
    dx = one.backward()[0]
    parts = workers.run(lambda r: step(runs[r], part(x, r), part(dy, r)))
    assert_close(np.concatenate([p[0] for p in parts]), np.maximum(y, 0), 1e-10)
    assert_close(np.concatenate([p[1] for p in parts]) / WORKERS, dx, 1e-10)


def test_large_means_cancel_nothing():
    workers, total = Workers(), WORKERS * BATCH
    runs = pooled_runs("reference", workers)
    x, dy = records(total, mean=1e6), records(total, mean=0.0, seed=4)
    one = norm("reference", total)
    y, dx = step(one, x, dy / WORKERS)
    parts = workers.run(lambda r: step(runs[r], part(x, r), part(dy, r)))
    assert_close(np.concatenate([p[0] for p in parts]), y, 1e-8)
    assert_close(np.concatenate([p[1] for p in parts]) / WORKERS, dx, 1e-8)


def test_unequal_and_empty_batches_count_by_their_records():
    sizes = (5, 0, 2)
    workers = Workers()
    runs = [norm("reference", size) for size in sizes]
    for rank, run in enumerate(runs):
        run.layer.set_pool(workers.pool(rank))
    x, dy = records(sum(sizes)), records(sum(sizes), seed=4)
    cuts = np.cumsum(sizes)[:-1]
    xs, dys = np.split(x, cuts), np.split(dy, cuts)
    one = norm("reference", sum(sizes))
    y, dx = step(one, x, dy)
    parts = workers.run(lambda r: step(runs[r], xs[r], dys[r]))
    assert_close(np.concatenate([p[0] for p in parts]), y, 1e-10)
    assert_close(np.concatenate([p[1] for p in parts]), dx, 1e-10)
    for run in runs:
        for got, want in zip(run.params(), one.params(), strict=True):
            assert_close(got, want, 1e-10)


def test_no_records_anywhere_leave_the_running_moments():
    run = norm("reference", 0)
    run.layer.set_pool(Alone())
    run.forward()
    assert not any(p.any() for p in run.params())


def test_large_bottoms_are_corrected_in_pieces():
    shape = (64, 40, 40)
    one, pooled = (norm("cpu", 7, shape=shape) for _ in range(2))
    pooled.layer.set_pool(Alone())
    x, dy = records(7, shape), records(7, shape, 0.3, 9)
    for got, want in zip(step(pooled, x, dy), step(one, x, dy), strict=True):
        assert_close(got, want, 1e-5)


def test_stored_moments_need_no_pool():
    pool = Alone()
    for more in ({"phase": Phase.TEST}, {"text": "use_global_stats: true"}):
        run = norm("reference", **more)
        assert not run.layer.set_pool(pool)
        assert not run.layer.moves_statistics
        step(run, records(BATCH), records(BATCH))
    assert not pool.calls


def test_a_pool_may_come_and_go():
    run, pool = norm("reference"), Alone()
    x, dy = records(BATCH), records(BATCH, seed=4)
    want = step(run, x, dy)
    for current, calls in ((pool, 3), (None, 3), (pool, 6)):
        run.layer.set_pool(current)
        for got, wanted in zip(step(run, x, dy), want, strict=True):
            assert_close(got, wanted, 1e-12)
        assert pool.calls == calls


# -- in a net ---------------------------------------------------------------------

NET = """
layer { name: "in" type: "Input" top: "data" top: "label"
  input_param { shape { dim: %d dim: 3 dim: 8 dim: 8 } shape { dim: %d } } }
layer { name: "c1" type: "Convolution" bottom: "data" top: "c1" convolution_param {
  num_output: 16 kernel_size: 3 pad: 1 weight_filler { type: "msra" } } }
layer { name: "bn1" type: "BatchNorm" bottom: "c1" top: "c1" }
layer { name: "s1" type: "Scale" bottom: "c1" top: "c1" scale_param {
  bias_term: true filler { type: "uniform" min: 0.5 } bias_filler { value: 0.2 } } }
layer { name: "r1" type: "ReLU" bottom: "c1" top: "c1" }
layer { name: "c2" type: "Convolution" bottom: "c1" top: "c2" convolution_param {
  num_output: 16 kernel_size: 3 weight_filler { type: "msra" } } }
layer { name: "bn2" type: "BatchNorm" bottom: "c2" top: "bn2" }
layer { name: "fc" type: "InnerProduct" bottom: "bn2" top: "fc"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "bn3" type: "BatchNorm" bottom: "fc" top: "fc" }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""


def make_net(kind, batch, **options):
    return Net(
        parse_net(NET % (batch, batch)),
        ops=ops_of(kind),
        phase=Phase.TRAIN,
        dtype=KINDS[kind][0],
        seed=5,
        options=NetOptions(**options),
    )


def passes(net, data, labels, count):
    """Losses and gradients after each of ``count`` passes, summed as iter_size does."""
    net.blobs["data"].data[...] = data
    net.blobs["label"].data[...] = labels
    net.clear_param_diffs()
    losses = [net.forward_backward() for _ in range(count)]
    return losses, [blob.diff.copy() for blob in net.learnable]


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_average_gradients_are_those_of_one_process(kind, fast):
    tolerance = 1e-10 if kind == "reference" else 2e-4
    workers, total = Workers(), WORKERS * BATCH
    options = {"fuse": fast, "share_memory": fast}
    nets = [make_net(kind, BATCH, **options) for _ in range(WORKERS)]
    one = make_net(kind, total)
    for rank, net in enumerate(nets):
        assert net.set_pool(workers.pool(rank)) == 3
        for blob, wanted in zip(net.learnable, one.learnable, strict=True):
            assert blob.data.tobytes() == wanted.data.tobytes()
    x = records(total, (3, 8, 8), 0.5)
    labels = np.random.default_rng(1).integers(0, 5, total)
    losses, wanted = passes(one, x, labels, 2)
    parts = workers.run(lambda r: passes(nets[r], part(x, r), part(labels, r), 2))
    assert np.mean([p[0] for p in parts], axis=0) == pytest.approx(losses, rel=1e-5)
    largest = max(np.abs(w).max() for w in wanted)
    for k, slot in enumerate(one.slots):
        mean = sum(p[1][k] for p in parts) / WORKERS
        np.testing.assert_allclose(
            mean, wanted[k], rtol=0, atol=tolerance * largest, err_msg=slot.name
        )
        if slot.statistics:
            got = [net.learnable[k].data for net in nets]
            assert_close(got[0], one.learnable[k].data, max(tolerance, 1e-12))
            assert len({values.tobytes() for values in got}) == 1


def test_looking_for_bad_numbers_asks_nobody():
    net, pool = make_net("cpu", BATCH), Alone()
    net.set_pool(pool)
    assert net.first_non_finite() is None
    assert not pool.calls
    net.forward()
    assert pool.calls == 6
