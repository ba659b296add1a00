from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from poseidon_caffe.backend.gpu.loss_scale import FIRST_FACTOR, DeviceLossScale
from poseidon_caffe.schema.messages import SolverParameter
from poseidon_caffe.solver.rules import make_rule
from poseidon_caffe.types import UpdateStep
from tests.backend.gpu.storage import here, there
from tests.devices import gpu_ops

STEP = UpdateStep(0.5, 0)
RULE = make_rule(SolverParameter(momentum=0.5))


@dataclass
class Segment:
    data: object
    diff: object
    history: list = field(default_factory=list)
    local_rate: float = 0.5
    decay: float = 0.0
    l1: bool = False
    scale: float = 1.0


def segment(gradient):
    arrays = [np.full(len(gradient), v, np.float32) for v in (3.0, 0.25)]
    diff = np.asarray(gradient, np.float32)
    data, history, diff = (there(a) for a in (*arrays, diff))
    return Segment(data, diff, [history])


def scale(**options):
    return DeviceLossScale(gpu_ops(), **options)


def numbers(one):
    return [here(array) for array in (one.data, one.history[0])]


def test_only_fp16_has_one():
    assert isinstance(gpu_ops("fp16").loss_scale(), DeviceLossScale)
    for precision in ("fp32", "tf32", "bf16"):
        assert gpu_ops(precision).loss_scale() is None


def test_gradients_are_divided_by_the_factor():
    scaling, one = scale(), segment([FIRST_FACTOR, -2 * FIRST_FACTOR])
    scaling.update(RULE, STEP, [one])
    data, history = numbers(one)
    np.testing.assert_allclose(history, [0.125 + 0.5, 0.125 - 1.0])
    np.testing.assert_allclose(data, 3 - history)
    assert scaling.state() == {"factor": FIRST_FACTOR, "good": 1, "skipped": 0}


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("at", [0, 5000])
def test_a_bad_gradient_anywhere_leaves_everything_as_it_is(bad, at):
    gradient = np.ones(5001)
    gradient[at] = bad
    scaling, pair = scale(), [segment([1.0, 2.0]), segment(gradient)]
    before = [numbers(one) for one in pair]
    scaling.update(RULE, STEP, pair)
    for one, old in zip(pair, before, strict=True):
        np.testing.assert_array_equal(numbers(one), old)
    assert scaling.state() == {"factor": FIRST_FACTOR / 2, "good": 0, "skipped": 1}
    # Gradients of the next step are made with the new factor.
    good = segment([FIRST_FACTOR / 2])
    scaling.update(RULE, STEP, [good])
    np.testing.assert_allclose(numbers(good)[1], [0.625])


def test_large_gradients_that_are_finite_are_no_overflow():
    scaling = scale()
    scaling.update(RULE, STEP, [segment([3e38, -3e38])])
    assert scaling.state()["skipped"] == 0


def test_the_factor_grows_after_good_steps_and_has_limits():
    scaling = scale(good_steps=2)
    for _ in range(2 * 10 + 1):
        scaling.update(RULE, STEP, [segment([1.0])])
    assert scaling.factor() == 2.0**24
    assert scaling.state()["good"] == 1
    for _ in range(30):
        scaling.update(RULE, STEP, [segment([np.nan])])
    assert scaling.factor() == 1.0
    assert scaling.state()["skipped"] == 30


def test_an_update_of_other_gradients_is_not_guarded_afterwards():
    ops, scaling = gpu_ops(), scale()
    scaling.update(RULE, STEP, [segment([np.inf])])
    one = segment([1.0])
    ops.update(RULE, STEP, [one])
    np.testing.assert_allclose(numbers(one)[1], [0.625])


def test_nothing_to_update():
    scaling = scale()
    scaling.update(RULE, STEP, [])
    assert scaling.state()["good"] == 0


def test_state_goes_on():
    one, other = scale(good_steps=3), scale(good_steps=3)
    one.update(RULE, STEP, [segment([np.inf])])
    one.update(RULE, STEP, [segment([1.0])])
    other.restore_state(one.state())
    assert other.state() == {"factor": FIRST_FACTOR / 2, "good": 1, "skipped": 1}
    for scaling in (one, other):
        scaling.update(RULE, STEP, [segment([1.0])])
        scaling.update(RULE, STEP, [segment([1.0])])
    assert one.state() == other.state() == {
        "factor": FIRST_FACTOR, "good": 0, "skipped": 1
    }  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("at", [0, 700])
def test_what_is_noted_is_reported_once(dtype, bad, at):
    scaling, gradient = scale(), np.ones(701, dtype)
    scaling.watch(there(gradient))
    assert here(scaling.report()).tolist() == [FIRST_FACTOR, 0]
    gradient[at] = bad
    scaling.watch(there(gradient))
    scaling.watch(there(np.ones(3, dtype)))
    assert here(scaling.report()).tolist() == [FIRST_FACTOR, 1]
    assert here(scaling.report()).tolist() == [FIRST_FACTOR, 0]
    scaling.watch(there(np.zeros(0, dtype)))
    # Others decide what follows.
    assert scaling.state() == {"factor": FIRST_FACTOR, "good": 0, "skipped": 0}


def test_sums_and_products_of_what_passes_are_finite():
    scaling = scale()
    for value, noted in ((2.0**48, 0), (-(2.0**49), 1), (3e38, 1)):
        scaling.watch(there(np.full(2, value, np.float32)))
        assert here(scaling.report())[1] == noted


def test_following_what_others_found():
    one, other = scale(good_steps=2), scale(good_steps=2)
    for gradient in (np.nan, 1.0, 1.0, 1.0, np.inf):
        used = one.factor()
        one.update(RULE, STEP, [segment([gradient])])
        other.follow(used, overflowed=not np.isfinite(gradient))
        assert other.state() == one.state()
    assert other.state() == {"factor": FIRST_FACTOR / 2, "good": 0, "skipped": 2}


def test_an_overflow_that_is_answered_lowers_nothing():
    """Iterations that were under way when the factor was lowered."""
    scaling = scale()
    for _ in range(3):
        scaling.follow(FIRST_FACTOR, overflowed=True)
    assert scaling.state() == {"factor": FIRST_FACTOR / 2, "good": 0, "skipped": 3}
    scaling.follow(FIRST_FACTOR / 2, overflowed=True)
    assert scaling.factor() == FIRST_FACTOR / 4


@pytest.mark.parametrize("count", [1, 700])
def test_weights_of_losses(count):
    scaling = scale()
    diff = there(np.zeros(count, np.float32))
    scaling.weigh(diff, 0.25, scaled=True)
    assert (here(diff) == 0.25 * FIRST_FACTOR).all()
    scaling.weigh(diff, 0.25, scaled=False)
    assert (here(diff) == 0.25).all()
