"""Sufficient factors: every worker rebuilds the same gradient from all of them."""

from __future__ import annotations

import functools
import threading

import numpy as np
import pytest

from poseidon_caffe.comm.settings import ClusterSettings
from poseidon_caffe.comm.tags import factors_tag
from poseidon_caffe.errors import ClusterError
from poseidon_caffe.net.hooks import DONE
from tests.comm.support import Tiny, alone, drive, together, trained

ON = ClusterSettings(svb="on")


def check(size, settings, *, make=Tiny, passes=1, iterations=4, clip=-1.0, **network):
    """As one process, and the very same on every worker."""
    workers = size - settings.servers
    expected = alone(make(), workers, iterations, passes, clip)
    found = trained(
        size, settings, iterations, passes=passes, clip=clip, make=make, **network
    )[:workers]  # fmt: skip
    for tiny in found:
        np.testing.assert_allclose(tiny.state(), expected, rtol=1e-9, atol=1e-12)
        np.testing.assert_array_equal(tiny.state(), found[0].state())


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("passes", [1, 3])
def test_as_one_process(size, passes):
    check(size, ON, passes=passes, seed=size, delay_s=(0, 0.001), eager_bytes=-1)


@pytest.mark.parametrize("dense", [(0,), (1,), (0, 2)])
def test_beside_rows(dense):
    make = functools.partial(Tiny, dense=dense, statistics=True)
    check(3, ON, make=make, passes=2, delay_s=(0, 0.001), eager_bytes=200)


@pytest.mark.parametrize("k", range(8))
def test_any_order_of_events(k):
    draw = np.random.default_rng(k)
    settings = ClusterSettings(
        svb="on", row_bytes=int(draw.choice([0, 40, 300])),
        servers=int(draw.integers(0, 2)), overlap=bool(draw.integers(0, 2)),
    )  # fmt: skip
    make = functools.partial(
        Tiny, widths=tuple(int(n) for n in draw.integers(1, 40, 4)),
        dense=tuple(np.flatnonzero(draw.integers(0, 2, 3))), statistics=True,
    )  # fmt: skip
    check(
        int(draw.integers(2, 5)), settings, make=make, seed=k,
        passes=int(draw.integers(1, 3)), iterations=3,
        clip=float(draw.choice([-1, 20])),
        delay_s=(0, float(draw.choice([0, 3e-4, 3e-3]))),
        eager_bytes=int(draw.choice([-1, 100, 1 << 20])),
    )  # fmt: skip


def test_histories_are_replicas_too():
    """Rank 0 writes its own into snapshots."""
    found = trained(3, ON, 4, delay_s=(0, 0.001))
    for tiny in found[1:]:
        for own, first in zip(
            tiny.updater.history, found[0].updater.history, strict=True
        ):
            np.testing.assert_array_equal(own, first)


def test_own_factors_wait_until_the_last_ones_have_left():
    """Large ones are read when they are received; the next pass must not spoil them."""

    def delay_s(source, peer, tag, size_bytes):
        return 0.03 if (source, peer) == (0, 2) and size_bytes > 100 else 0.0

    check(3, ON, delay_s=delay_s, eager_bytes=-1, iterations=3)


def test_a_clip_known_early_and_a_window_that_is_full():
    """Urgent factors of the next clock fill the window before the last clock's."""
    slow = {factors_tag(4, part) for part in (0, 1)}

    def delay_s(source, peer, tag, size_bytes):
        return 0.01 if (source, peer) == (1, 2) and tag in slow else 0.0

    settings = ClusterSettings(svb="on", row_bytes=100)
    check(3, settings, clip=10.0, delay_s=delay_s, eager_bytes=-1)


def test_layers_leave_their_gradients_alone():
    def work(rank, cluster):
        tiny = Tiny(dense=(1,))
        attached = cluster.attach(tiny.model())
        assert [pair.weights.index for pair in attached.plan.pairs] == [0, 4]
        assert [pair.bias.index for pair in attached.plan.pairs] == [1, 5]
        return [product.defer_gradient for product in tiny.products]

    assert together(2, ON, work) == [[True, False, True]] * 2


@pytest.mark.parametrize("rows", [2, 4, None])
def test_a_batch_of_another_size_is_refused(rows):
    def work(rank, cluster):
        tiny = Tiny(widths=(5, 4))
        observer = cluster.attach(tiny.model()).observer
        tiny.factors(0, rank, 0, 0)
        if rows is None:
            tiny.products[0].held = None
        else:
            held = tiny.products[0].held
            tiny.products[0].held = tuple(np.resize(part, (rows, 4)) for part in held)
        with pytest.raises(ClusterError) as caught:
            observer.grad_ready(tiny.slots[0], DONE)
        return str(caught.value)

    for text in together(2, ON, work):
        assert "ip0" in text
        assert "3" in text
        assert "--svb off" in text


def test_missing_names_what_is_not_complete():
    gate = threading.Barrier(2, timeout=10)

    def work(rank, cluster):
        tiny = Tiny()
        attached = cluster.attach(tiny.model())
        factors = attached.observer._factors
        assert factors.missing() == ["ip0/0", "ip1/0", "ip2/0"]
        gate.wait()
        drive(tiny, attached, rank, 2)
        return [factors.version(slot) for slot in range(6)]

    assert together(2, ON, work) == [[2] * 6] * 2
