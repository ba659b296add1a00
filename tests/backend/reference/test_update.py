from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from poseidon_caffe.backend.reference import ReferenceOps
from poseidon_caffe.backend.reference.update import PIECE_COUNT, divide_work
from poseidon_caffe.errors import BackendError
from poseidon_caffe.solver import rules
from poseidon_caffe.types import RuleKernel, UpdateStep


@dataclass
class Segment:
    data: np.ndarray
    diff: np.ndarray
    history: list[np.ndarray] = field(default_factory=list)
    local_rate: float = 0.1
    decay: float = 0.0
    l1: bool = False
    scale: float = 1.0


class Momentum:
    """h = 0.9 h + rate g; data -= h.  Spoils the gradient, as a rule may."""

    history_count = 1
    heavy_ball = None

    def apply(self, data, diff, history, *, local_rate, step):
        assert data.shape == diff.shape == history[0].shape
        assert step.rate == 2.0
        history[0] *= 0.9
        history[0] += local_rate * diff
        data -= history[0]
        diff[...] = np.nan

    def kernel(self, step):
        assert step.rate == 2.0
        return RuleKernel("sgd", (0.9,))


SIZES = (1, 7, PIECE_COUNT, PIECE_COUNT + 1, 3 * PIECE_COUNT - 5, 0)


@pytest.mark.parametrize("l1", [False, True])
@pytest.mark.parametrize(("scale", "decay"), [(1.0, 0.0), (0.25, 0.0), (0.5, 0.01)])
def test_every_segment_gets_its_own_step(kit, rng, scale, decay, l1):
    values = [rng.standard_normal((3, size)) for size in SIZES]
    segments = [
        Segment(
            kit.param(d), kit.param(g), [kit.param(h)],
            0.1 * (i + 1), decay * i, l1, scale / (i + 1),
        )
        for i, (d, g, h) in enumerate(values)
    ]  # fmt: skip
    kit.ops.update(Momentum(), UpdateStep(rate=2.0, iteration=5), segments)
    for (data, diff, history), segment in zip(values, segments, strict=True):
        penalty = np.sign(data) if l1 else data
        gradient = segment.scale * diff + segment.decay * penalty
        step = 0.9 * history + segment.local_rate * gradient
        kit.assert_close(segment.data, data - step, loose=2)
        kit.assert_close(segment.history[0], step, loose=2)


RULES = [
    rules.Sgd(0.9),
    rules.Nesterov(0.9),
    rules.AdaGrad(1e-3),
    rules.RmsProp(0.9, 1e-3),
    rules.AdaDelta(0.9, 1e-3),
    rules.Adam(0.9, 0.99, 1e-3),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("l1", [False, True])
def test_each_rule_for_several_steps(kit, rng, rule, l1):
    sizes = (3, 4097, 64)
    start = [rng.standard_normal((2, size)) for size in sizes]
    mine, theirs = (
        [
            Segment(
                np.array(data, dtype), np.array(diff, dtype),
                [np.zeros(data.size, dtype) for _ in range(rule.history_count)],
                0.1, 0.05 * i, l1, 0.5,
            )
            for i, (data, diff) in enumerate(start)
        ]
        for dtype in (kit.dtype, np.float64)
    )  # fmt: skip
    for iteration in range(3):
        step = UpdateStep(rate=0.1, iteration=iteration)
        for ops, segments in ((kit.ops, mine), (ReferenceOps(), theirs)):
            ops.update(rule, step, segments)
        for segment in (*mine, *theirs):
            segment.diff[...] = np.cos(np.arange(segment.diff.size) + iteration)
            segment.local_rate *= 0.5  # given anew at every step
    for one, other in zip(mine, theirs, strict=True):
        kit.assert_close(one.data, other.data, loose=20)
        for a, b in zip(one.history, other.history, strict=True):
            kit.assert_close(a, b, loose=20)


def test_pieces_at_odd_places(kit, rng):
    whole = [kit.param(rng.standard_normal(5000)) for _ in range(3)]
    old = [array.copy() for array in whole]
    data, diff, history = (array[1:4999] for array in whole)
    segment = Segment(data, diff, [history])
    kit.ops.update(Momentum(), UpdateStep(rate=2.0, iteration=0), [segment])
    step = 0.9 * old[2][1:4999] + 0.1 * old[1][1:4999]
    kit.assert_close(data, old[0][1:4999] - step)
    for array, before in zip(whole, old, strict=True):
        np.testing.assert_array_equal(array[[0, -1]], before[[0, -1]])


def test_many_rates_and_scales(kit):
    segments = [
        Segment(
            kit.param(np.zeros(3)), kit.param(np.ones(3)), [kit.param(np.zeros(3))],
            0.1 + i, scale=1 + i,
        )
        for i in range(19)
    ]  # fmt: skip
    kit.ops.update(Momentum(), UpdateStep(rate=2.0, iteration=0), segments)
    for i, segment in enumerate(segments):
        kit.assert_close(segment.data, np.full(3, -(0.1 + i) * (1 + i)))


@pytest.mark.parametrize("sizes", [(), (0,), (5,), (3, 0, 9000, 1)])
def test_sum_of_squares_over_arrays(kit, rng, sizes):
    arrays = [rng.standard_normal(size) for size in sizes]
    got = kit.ops.sumsq_of([kit.param(array) for array in arrays])
    want = sum(float(np.dot(array, array)) for array in arrays)
    assert got == pytest.approx(want, rel=1e-6)


def test_rules_may_have_more_or_no_history(kit):
    """Rules of users, which only a GPU backend cannot run."""

    class Plain:
        history_count = 0
        heavy_ball = None

        def apply(self, data, diff, history, *, local_rate, step):
            assert list(history) == []
            data -= local_rate * diff

    segment = Segment(kit.param(np.ones(5)), kit.param(np.ones(5)))
    if kit.ops.name == "gpu":
        with pytest.raises(BackendError, match="rule Plain has no GPU kernel"):
            kit.ops.update(Plain(), UpdateStep(rate=1.0, iteration=0), [segment])
        return
    kit.ops.update(Plain(), UpdateStep(rate=1.0, iteration=0), [segment])
    kit.assert_close(segment.data, np.full(5, 0.9))
    kit.ops.update(Plain(), UpdateStep(rate=1.0, iteration=0), [])


def test_a_failing_rule_is_heard(kit):
    class Broken:
        history_count = 0
        heavy_ball = None

        def apply(self, data, diff, history, *, local_rate, step):
            raise ZeroDivisionError("in the rule")

    if kit.ops.name == "gpu":
        pytest.skip("runs no Python rules")
    segment = Segment(*kit.param(np.ones((2, 4 * PIECE_COUNT))))
    with pytest.raises(ZeroDivisionError, match="in the rule"):
        kit.ops.update(Broken(), UpdateStep(rate=1.0, iteration=0), [segment])


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
def test_work_is_divided_evenly_and_wholly(workers):
    segments = [Segment(np.zeros(n), np.zeros(n)) for n in (5, 100, 0, 33, 1000)]
    groups = divide_work(segments, workers, piece=10)
    assert 1 <= len(groups) <= workers
    touched = [(id(s), i) for g in groups for s, a, b in g for i in range(a, b)]
    assert len(touched) == len(set(touched)) == 1138
    loads = [sum(b - a for _, a, b in group) for group in groups]
    assert max(loads) - min(loads) <= 20
    assert divide_work([], workers) == []


def test_parallel_runs_everything_and_passes_errors_on(kit):
    done = []
    kit.ops.parallel([lambda i=i: done.append(i) for i in range(20)])
    assert sorted(done) == list(range(20))
    kit.ops.parallel([])
    with pytest.raises(ZeroDivisionError):
        kit.ops.parallel([lambda: None, lambda: 1 // 0, lambda: None])
