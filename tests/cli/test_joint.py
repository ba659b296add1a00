"""A step that fails on any rank stops all, and rank 0 has what to tell."""

from __future__ import annotations

import pytest

from poseidon_caffe.cli.joint import Joint, JointFailure
from poseidon_caffe.errors import ClusterError, DataError
from tests.comm.meeting import meet

HOSTS = ["a", "a", "b"]


def failures(step):
    """What `Joint.together` raises on each of three ranks."""

    def play(meeting, rank):
        return Joint(meeting, rank, HOSTS).together(lambda: step(rank))

    return meet(3, play)


def fail_on(ranks, text="{rank} is bad"):
    def step(rank):
        if rank in ranks:
            raise DataError(text.format(rank=rank))
        return rank

    return step


def test_results_come_back_even_none():
    assert failures(lambda rank: rank) == [0, 1, 2]
    assert failures(lambda rank: None) == [None] * 3


def test_rank_0_tells_its_own_error():
    found = failures(fail_on({0, 1, 2}))
    assert all(isinstance(failure, JointFailure) for failure in found)
    assert [failure.error is None for failure in found] == [False, True, True]
    assert isinstance(found[0].error, DataError)
    assert str(found[0].error) == "0 is bad"


def test_rank_0_tells_of_others_by_rank_and_host():
    found = failures(fail_on({2}))
    assert isinstance(found[0].error, ClusterError)
    assert str(found[0].error) == "rank 2 (host b): 2 is bad"
    assert found[2].error is None


def test_what_several_met_alike_is_told_once():
    text = "no file x\ndid you mean y?"
    error = failures(fail_on({1, 2}, text))[0].error
    assert str(error) == f"ranks 1, 2: {text}"


def test_faults_of_the_program_are_told_with_their_place():
    def step(rank):
        return 1 // (rank - 1)

    said = str(failures(step)[0].error)
    assert said.startswith("rank 1 (host a): ZeroDivisionError: ")
    assert "test_joint.py" in said


def test_alike_needs_no_exchange():
    def play(meeting, rank):
        def fail():
            raise ClusterError("differs")

        return Joint(meeting, rank, HOSTS).alike(fail)

    found = meet(3, play)
    assert [str(failure.error) for failure in found] == ["differs", "None", "None"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_asking_to_end_is_no_step_that_failed(error):
    def step():
        raise error

    with pytest.raises(error):
        Joint(None, 0, HOSTS).together(step)
