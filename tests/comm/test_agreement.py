"""Requests: or-ed over workers, acted on by all at the same iteration."""

from __future__ import annotations

import random
import threading
import time

import pytest

from poseidon_caffe.comm.agreement import Agreement
from poseidon_caffe.comm.model import Roles
from tests.comm.couriers import on_couriers


@pytest.mark.parametrize("lag", [1, 3])
@pytest.mark.parametrize(("size", "servers"), [(1, 0), (2, 0), (4, 0), (4, 2)])
def test_all_hear_the_same_in_the_same_iteration(size, servers, lag):
    first, iterations, workers = 100, 25, size - servers
    asked = {
        (rank, iteration): 1 << rank
        for rank in range(workers)
        for iteration in range(first + 1, first + iterations + 1)
        if random.Random(f"{rank}/{iteration}").random() < 0.2
    }

    def play(courier):
        roles = Roles.of(courier.rank, size, servers)
        if not roles.works:
            return None
        agreement = Agreement(courier, roles, lag, first)
        courier.call(agreement.open)
        found = []
        for iteration in range(first + 1, first + iterations + 1):
            if random.Random(f"nap {courier.rank}/{iteration}").random() < 0.1:
                time.sleep(0.002)
            bits = asked.get((courier.rank, iteration), 0)
            found.append(agreement.agree(iteration, bits))
        return found

    found = on_couriers(size, play, delay_s=(0, 1e-3), seed=lag)
    expected = [
        sum(asked.get((rank, iteration - lag), 0) for rank in range(workers))
        for iteration in range(first + 1, first + iterations + 1)
    ]
    assert any(expected)
    assert found[:workers] == [expected] * workers


def test_nobody_waits_for_a_worker_within_the_lag():
    """The answer of an iteration is asked for when all must have passed it."""

    passed = threading.Event()

    def play(courier):
        agreement = Agreement(courier, Roles.of(courier.rank, 2, 0), 2, 0)
        courier.call(agreement.open)
        if courier.rank:
            assert passed.wait(10)
        found = [agreement.agree(1, 4), agreement.agree(2, 0)]
        passed.set()
        return [*found, agreement.agree(3, 0)]

    assert on_couriers(2, play) == [[0, 0, 4]] * 2


def test_nothing_is_kept():
    def play(courier):
        agreement = Agreement(courier, Roles.of(courier.rank, 2, 0), 1, 0)
        courier.call(agreement.open)
        for iteration in range(1, 50):
            agreement.agree(iteration, 1)
        return len(agreement._agreed) + len(agreement._heard)

    assert max(on_couriers(2, play)) <= 2
