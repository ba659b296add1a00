"""Every rank learns what all workers found of an iteration's gradients."""

from __future__ import annotations

import pytest

from poseidon_caffe.comm.courier import Waiting
from poseidon_caffe.comm.model import Roles
from poseidon_caffe.comm.verdict import Verdict, VerdictBoard
from poseidon_caffe.errors import ClusterError
from tests.comm.couriers import on_couriers

CLOCKS = 30


@pytest.mark.parametrize("servers", [0, 1])
@pytest.mark.parametrize("staleness", [0, 3])
def test_one_worker_condemns_for_all(servers, staleness):
    def play(courier):
        roles = Roles.of(courier.rank, 4, servers)
        board = VerdictBoard(courier, roles, 5, staleness)
        heard = []

        def known():
            heard.append((board.newest, board.of(board.newest)))

        board.on_known = known
        courier.call(board.open)
        for clock in range(5, 5 + CLOCKS) if roles.works else ():
            bad = clock % 7 == 0 and courier.rank == clock % 3
            courier.call(
                lambda clock=clock, bad=bad: board.report(
                    clock, 2.0**clock, overflowed=bad
                )
            )
            if not staleness:
                courier.wait_for(
                    lambda clock=clock: board.is_known(clock), Waiting("a test")
                )
        courier.wait_for(lambda: board.is_known(4 + CLOCKS), Waiting("a test"))
        return heard

    expected = [
        (clock, Verdict(2.0**clock, clock % 7 == 0)) for clock in range(5, 5 + CLOCKS)
    ]
    assert on_couriers(4, play, delay_s=(0, 1e-3)) == [expected] * 4


def test_recent_verdicts_are_kept_and_no_others():
    def play(courier):
        board = VerdictBoard(courier, Roles.of(0, 1, 0), 0, 2)

        def tell():
            for clock in range(9):
                board.report(clock, 1.0, overflowed=False)

        courier.call(tell)
        courier.wait_for(lambda: board.is_known(8), Waiting("a test"))
        assert not board.is_known(9)
        found = [board.of(clock) for clock in (5, 6, 7, 8)]
        with pytest.raises(KeyError):
            board.of(4)
        return found

    assert on_couriers(1, play) == [[Verdict(1.0, overflowed=False)] * 4]


def test_workers_whose_factors_differ_do_not_go_on():
    def play(courier):
        board = VerdictBoard(courier, Roles.of(courier.rank, 2, 0), 0, 0)
        courier.call(board.open)
        courier.call(lambda: board.report(0, 4.0 + courier.rank, overflowed=False))
        with pytest.raises(ClusterError, match=r"iteration 0: \[4.0, 5.0\]"):
            courier.wait_for(lambda: board.is_known(0), Waiting("a test"))
        return True

    assert on_couriers(2, play) == [True, True]


def test_squares():
    assert Verdict(8.0, overflowed=False).squares(128.0) == 2.0
    assert Verdict(8.0, overflowed=True).squares(float("nan")) == 0.0
