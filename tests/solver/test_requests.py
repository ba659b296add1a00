"""Requests: heard at once when alone, agreed upon otherwise."""

from __future__ import annotations

import pytest

from poseidon_caffe.solver.requests import Requests
from poseidon_caffe.solver.sync import LocalSync


class Others(LocalSync):
    """Answers with what the other workers want."""

    def __init__(self, *answers):
        self.answers, self.heard = list(answers), []

    def agree(self, requests):
        self.heard.append(requests)
        return self.answers.pop(0)


def test_alone_a_stop_counts_at_once():
    requests = Requests(is_alone=True)
    assert not requests.must_stop
    requests.ask_stop()
    assert requests.must_stop
    requests.agree(LocalSync())
    assert requests.must_stop
    requests.clear_stop()
    assert not requests.must_stop


@pytest.mark.parametrize("is_alone", [True, False])
def test_a_snapshot_is_answered_once(is_alone):
    requests = Requests(is_alone=is_alone)
    requests.ask_snapshot()
    assert not requests.take_snapshot()
    requests.agree(LocalSync())
    assert requests.take_snapshot()
    assert not requests.take_snapshot()
    requests.agree(LocalSync())
    assert not requests.take_snapshot()


def test_in_a_cluster_only_what_was_agreed_counts():
    requests, others = Requests(is_alone=False), Others(0, 1, 2)
    requests.ask_stop()
    assert not requests.must_stop
    requests.agree(others)
    assert not requests.must_stop
    requests.agree(others)
    assert requests.must_stop
    requests.clear_stop()
    requests.agree(others)
    assert requests.take_snapshot()
    assert not requests.must_stop
    assert others.heard == [1, 0, 0]  # told once


def test_one_signal_that_reaches_ranks_at_different_iterations_is_one_snapshot():
    requests, others = Requests(is_alone=False), Others(2, 2, 0, 2, 0, 0, 3)
    taken = []
    for _ in range(7):
        requests.agree(others)
        taken.append(requests.take_snapshot())
    assert taken == [True, False, False, False, False, False, True]
    assert requests.must_stop, "only wishes for snapshots have echoes"


def test_alone_every_wish_for_a_snapshot_counts():
    requests = Requests(is_alone=True)
    for _ in range(3):
        requests.ask_snapshot()
        requests.agree(LocalSync())
        assert requests.take_snapshot()
