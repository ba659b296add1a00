from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from poseidon_caffe.backend.reference.update import PIECE_COUNT, divide_work
from poseidon_caffe.types import UpdateStep


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
        history[0] *= 0.9
        history[0] += local_rate * step.rate * diff
        data -= history[0]
        diff[...] = np.nan


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
        step = 0.9 * history + segment.local_rate * 2.0 * gradient
        kit.assert_close(segment.data, data - step, loose=2)
        kit.assert_close(segment.history[0], step, loose=2)


def test_rules_may_have_more_or_no_history(kit):
    class Plain:
        history_count = 0
        heavy_ball = None

        def apply(self, data, diff, history, *, local_rate, step):
            assert list(history) == []
            data -= local_rate * diff

    segment = Segment(kit.param(np.ones(5)), kit.param(np.ones(5)))
    kit.ops.update(Plain(), UpdateStep(rate=1.0, iteration=0), [segment])
    kit.assert_close(segment.data, np.full(5, 0.9))
    kit.ops.update(Plain(), UpdateStep(rate=1.0, iteration=0), [])


def test_a_failing_rule_is_heard(kit):
    class Broken:
        history_count = 0
        heavy_ball = None

        def apply(self, data, diff, history, *, local_rate, step):
            raise ZeroDivisionError("in the rule")

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
