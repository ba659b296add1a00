"""Gradients with a factor: taken out exactly, and no step where one overflows."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field

import numpy as np
import pytest

from poseidon_caffe.comm.settings import ClusterSettings
from tests.comm.support import Momentum, Tiny, alone, drive, together

FIRST = 2.0**16
CASES = {
    "rows": (3, ClusterSettings(svb="off"), {"statistics": True}),
    "small rows": (3, ClusterSettings(svb="off", row_bytes=300), {}),
    "factors": (3, ClusterSettings(svb="on"), {}),
    "mixed": (3, ClusterSettings(svb="on"), {"dense": (1,), "statistics": True}),
    "alone": (1, ClusterSettings(svb="on"), {"dense": (1,)}),
    "one server": (4, ClusterSettings(svb="off", servers=1), {"statistics": True}),
    "servers, factors": (4, ClusterSettings(svb="on", servers=2), {"dense": (2,)}),
    "servers, no row": (4, ClusterSettings(svb="on", servers=2), {}),
    "versions": (3, ClusterSettings(svb="off", force_ssp=True), {}),
    "at once": (3, ClusterSettings(svb="on", overlap=False), {"dense": (0,)}),
    "replicas": (3, ClusterSettings(svb="on", check_replicas_iters=2), {}),
}  # fmt: skip


class Scale:
    """`GradientScale` of a `Tiny` on the host."""

    def __init__(self, tiny, courier):
        self.tiny, self.courier = tiny, courier
        self.factor, self.noted = FIRST, False
        self.followed = []

    def _watch(self, array):
        self.noted |= not np.isfinite(array).all()

    def watch_gradient(self, slot):
        self._watch(self.tiny.blobs[slot].diff)

    def watch_factor(self, factor):
        self._watch(factor)

    def report(self, then):
        found, self.noted = (self.factor, self.noted), False
        self.courier.call(lambda: then(*found))

    def follow(self, used, *, overflowed):
        self.followed.append((used, overflowed))
        if overflowed:
            self.factor = min(self.factor, used / 2)


@dataclass
class Scaled(Tiny):
    """Gradients have a factor in them; in some iterations a worker's overflow.

    Attributes:
        bad: (worker, iteration, layer) of infinite gradients.
        most: a factor above it makes worker 1's overflow.
    """

    bad: tuple[tuple[int, int, int], ...] = ()
    most: float = math.inf
    scale: Scale | None = field(default=None, repr=False)

    def factors(self, layer, worker, iteration, part):
        super().factors(layer, worker, iteration, part)
        top, _ = self.products[layer].held
        top *= self.scale.factor
        too_much = worker == 1 and self.scale.factor > self.most
        if (worker, iteration, layer) in self.bad or (too_much and layer == 0):
            top[1, -1] = -math.inf
            top[0, -1] = math.inf

    @np.errstate(all="ignore")
    def backward(self, layer):
        super().backward(layer)


class Skipping(Momentum):
    """Leaves iterations out."""

    skipped = frozenset()

    def apply(self, iteration, pieces, scale):
        if iteration not in self.skipped:
            super().apply(iteration, pieces, scale)


def train(size, settings, iterations, make, *, passes=1, clip=-1.0, seed=0):
    """(Scaled, clips) of all ranks."""

    def work(rank, cluster):
        tiny, clips = make(), []
        tiny.scale = Scale(tiny, cluster.courier)
        model = tiny.model(
            iter_size=passes, clip_gradients=clip, scale=tiny.scale,
            on_clip=lambda *event: clips.append(event),
        )  # fmt: skip
        attached = cluster.attach(model)
        if attached.sync is None:
            cluster.serve()
        else:
            drive(tiny, attached, rank, iterations, passes)
            attached.sync.finish()
        return tiny, clips

    return together(size, settings, work, delay_s=(0, 5e-4), seed=seed)


@pytest.mark.parametrize(("passes", "clipped"), [(1, False), (2, False), (1, True)])
@pytest.mark.parametrize("name", CASES)
def test_a_step_that_overflows_anywhere_is_left_out_everywhere(name, passes, clipped):
    size, settings, options = CASES[name]
    workers, iterations = size - settings.servers, 6
    last = workers - 1
    bad = ((last, 0, 2), (0, 3, 0), (last, 3, 1))
    one = Tiny(**options)
    one.updater = Skipping(one.blobs)
    one.updater.skipped = {0, 3}
    expected = alone(one, workers, iterations, passes)
    clip, clips = -1.0, []
    if clipped:
        clip = float(np.median(one.norms))
        one = Tiny(**options)
        one.updater = Skipping(one.blobs)
        one.updater.skipped = {0, 3}
        expected = alone(one, workers, iterations, passes, clip)
        clips = [
            (k, norm, clip / norm)
            for k, norm in enumerate(one.norms)
            if norm > clip and k not in {0, 3}
        ]
        assert clips
    make = functools.partial(Scaled, bad=bad, **options)
    found = train(
        size, settings, iterations, make, passes=passes, clip=clip, seed=passes
    )
    for tiny, said in found[:workers]:
        np.testing.assert_allclose(tiny.state(), expected, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(
            np.reshape(said, (-1, 3)), np.reshape(clips, (-1, 3)), rtol=1e-9
        )
        assert tiny.scale.factor == FIRST / 4
        # The very next iteration has the lower factor.
        assert tiny.scale.followed == [
            (FIRST, True), (FIRST / 2, False), (FIRST / 2, False), (FIRST / 2, True),
            (FIRST / 4, False), (FIRST / 4, False),
        ]  # fmt: skip
    first, *others = (tiny.state() for tiny, _ in found[:workers])
    for other in others:
        np.testing.assert_array_equal(other, first)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("size", "servers"), [(3, 0), (4, 1)])
def test_stale_workers_lower_it_together_and_once(size, servers, seed):
    """Factors of one iteration are the same everywhere, or the board would say so."""
    settings = ClusterSettings(svb="off", staleness=2, servers=servers, row_bytes=2048)
    make = functools.partial(Scaled, most=FIRST / 8)
    found = train(size, settings, 20, make, seed=seed)
    first = found[0][0].scale.followed
    bad = [factor for factor, overflowed in first if overflowed]
    # A lower factor comes into use when up to two more iterations have overflowed.
    assert bad == [FIRST] * 3 + [FIRST / 2] * 3 + [FIRST / 4] * 3
    for tiny, _ in found[: size - servers]:
        assert tiny.scale.factor == FIRST / 8
        assert tiny.scale.followed == first
        assert len(first) == 20
        assert np.isfinite(tiny.state()).all()
    np.testing.assert_array_equal(found[0][0].state(), found[1][0].state())


def test_nothing_that_could_overflow():
    """Statistics alone travel: nobody waits for a verdict."""
    make = functools.partial(Scaled, widths=(3,), statistics=True)
    found = train(2, ClusterSettings(), 3, make)
    for tiny, _ in found:
        assert tiny.scale.followed == []
        np.testing.assert_array_equal(
            tiny.state(), alone(Tiny(widths=(3,), statistics=True), 2, 3)
        )
