"""The token bucket, by a clock of the test's own."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poseidon_caffe.comm.pacing import TokenBucket


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


def test_no_cap_lets_everything_pass():
    bucket = TokenBucket.of_mbps(0)
    assert all(bucket.take(1 << 40) for _ in range(3))
    assert bucket.ready_in_s() == math.inf, "nobody has to look again"


def test_debt_is_paid_at_the_rate():
    clock = Clock()
    bucket = TokenBucket(1000, clock)
    assert bucket.take(500)
    assert not bucket.take(1)
    assert bucket.ready_in_s() == pytest.approx(0.5)
    clock.now_s += 0.25
    assert not bucket.take(1)
    assert bucket.ready_in_s() == pytest.approx(0.25)
    clock.now_s += 0.25
    assert bucket.ready_in_s() == pytest.approx(0, abs=1e-9)
    clock.now_s += 1e-6
    assert bucket.take(1)


def test_a_refusal_costs_nothing():
    clock = Clock()
    bucket = TokenBucket(1000, clock)
    bucket.take(500)
    for _ in range(5):
        assert not bucket.take(10**9)
    assert bucket.ready_in_s() == pytest.approx(0.5)


def test_a_long_silence_does_not_save_up_a_burst():
    clock = Clock()
    bucket = TokenBucket(1e6, clock)
    clock.now_s += 3600
    sent = 0
    while bucket.take(1000):
        sent += 1000
    assert sent <= 1e6 * 0.005 + 2000


def test_mbps_are_millions_of_bits():
    bucket = TokenBucket.of_mbps(80)
    bucket.take(10_000_000)
    assert bucket.ready_in_s() == pytest.approx(1, abs=0.05)


@settings(max_examples=30)
@given(
    sizes=st.lists(st.integers(1, 10**6), min_size=2, max_size=20),
    rate=st.sampled_from([1e4, 1e6, 1e9]),
    step=st.floats(0.3, 1),
)
def test_the_rate_holds_in_the_long_run(sizes, rate, step):
    clock = Clock()
    bucket = TokenBucket(rate, clock)
    start_s = clock.now_s
    for size_bytes in sizes:
        while not bucket.take(size_bytes):
            clock.now_s += max(step * bucket.ready_in_s(), 1e-9)
    took_s = clock.now_s - start_s
    # The last message's debt is not waited for; a burst may be saved up.
    assert took_s * rate >= sum(sizes[:-1]) - 0.005 * rate - 1
    assert took_s * rate <= sum(sizes) * 1.01 + 1
