"""Situations, as the heartbeats tell them, and who is to blame in each."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest

from poseidon_caffe.comm.diagnosis import (
    Cause,
    Limits,
    Sign,
    last_words,
    name_of,
    root_cause,
    speakers,
)
from poseidon_caffe.comm.process import GONE
from poseidon_caffe.comm.settings import ClusterSettings

LIMITS = Limits(interval_s=0.5, silent_s=3, warning_s=10, end_s=30)


def waits(rank, *peers, idle_s=20.0, **more):
    return Sign(
        rank, pid=100 + rank, is_waiting=True, idle_s=idle_s,
        awaits=frozenset(peers), **more,
    )  # fmt: skip


def works(rank, idle_s=0.1, **more):
    return Sign(rank, pid=100 + rank, idle_s=idle_s, iteration=12, **more)


def silent(rank, silent_s=20.0, **more):
    return Sign(rank, pid=100 + rank, silent_s=silent_s, **more)


def cause(me, *signs):
    return root_cause(me, signs, LIMITS)


def test_nobody_is_blamed_while_this_rank_works():
    assert cause(0, works(0), silent(1), works(2, idle_s=100)) is None


@pytest.mark.parametrize("me", [works(0), waits(0, 1)])
def test_a_rank_that_is_gone_is_told_at_once(me):
    found = cause(0, me, silent(1, 0.4, process=GONE), works(2))
    assert (found.cause, found.ranks, found.age_s) == (Cause.DIED, (1,), math.inf)
    assert found.text == "rank 1 (host localhost, pid 101) has died"


def test_several_that_are_gone_are_all_named():
    found = cause(0, works(0), silent(1, process=GONE), silent(2, process=GONE))
    assert found.ranks == (1, 2)
    assert "rank 1 (host localhost, pid 101) and rank 2" in found.text
    assert found.text.endswith("have died")


def test_gone_outweighs_silent_and_stopped():
    signs = (waits(0, 1), silent(1), silent(2, process="T"), silent(3, 1, process=GONE))
    assert cause(0, *signs).ranks == (3,)


def test_a_stopped_rank_is_named_even_before_it_counts_as_silent():
    found = cause(0, waits(0, 1), silent(1, 1.0, process="T"))
    assert (found.cause, found.ranks, found.age_s) == (Cause.STOPPED, (1,), 1.0)
    assert "is stopped (SIGSTOP)" in found.text


def test_silent_on_another_machine():
    signs = (waits(0, 1), silent(1, 31, host="b"))
    found = cause(0, *signs)
    assert (found.cause, found.ranks, found.age_s) == (Cause.SILENT, (1,), 31)
    assert found.text == (
        "rank 1 (host b, pid 101) has been silent for 31 s: "
        "stopped, or its machine or network is down"
    )


def test_silent_but_its_process_lives():
    assert "its process lives" in cause(0, waits(0, 1), silent(1, process="S")).text


def test_a_moment_of_silence_is_not_silence():
    found = cause(0, waits(0, 1), works(1, silent_s=2.9))
    assert found.cause is Cause.STUCK
    assert found.age_s < 3.1


def test_chain_leads_to_the_silent_one():
    signs = (waits(0, 1), waits(1, 2), waits(2, 3), silent(3))
    for me in (0, 1, 2):
        assert cause(me, *signs).ranks == (3,)


def test_chain_leads_to_the_one_that_does_not_move():
    signs = (waits(0, 1), waits(1, 2), works(2, idle_s=40, layer="data"))
    found = cause(0, *signs)
    assert (found.cause, found.ranks) == (Cause.STUCK, (2,))
    # It can have kept this rank waiting no longer than this rank waits.
    assert found.age_s == 20
    assert found.text == (
        "rank 2 (host localhost, pid 102) is alive but has been in iteration 12, "
        "layer data, for 40 s"
    )


def test_outside_the_layers_is_said_so():
    assert "outside the net's layers" in cause(0, waits(0, 1), works(1)).text


def test_of_several_busy_ranks_the_slowest_is_named():
    signs = (waits(0, 1, 2, 3), works(1, 5), works(2, 50), works(3, 7))
    assert cause(0, *signs).ranks == (2,)


def test_a_busy_rank_that_nobody_waits_for_is_not_named():
    signs = (waits(0, 1), works(1, 5), works(2, 50))
    assert cause(0, *signs).ranks == (1,)


def test_several_silent_ranks_that_are_waited_for_are_named_together():
    signs = (waits(0, 1), waits(1, 2, 3), silent(2, 20), silent(3, 25))
    found = cause(0, *signs)
    assert (found.ranks, found.age_s) == ((2, 3), 25)
    assert "have been silent for 25 s" in found.text


def test_a_silent_rank_counts_though_nobody_is_known_to_wait_for_it():
    assert cause(0, waits(0, 1), waits(1, 0), silent(2)).ranks == (2,)


def test_a_ring_of_waiting_ranks():
    signs = (waits(0, 1), waits(1, 2, idle_s=15), waits(2, 0))
    found = cause(0, *signs)
    assert (found.cause, found.ranks, found.age_s) == (Cause.DEADLOCK, (0, 1, 2), 15)
    assert "all wait for one another" in found.text


def test_a_ring_behind_which_one_is_silent_is_no_deadlock():
    signs = (waits(0, 1), waits(1, 0, 2), silent(2))
    assert cause(0, *signs).ranks == (2,)


def test_what_a_fading_rank_said_last_makes_no_deadlock():
    found = cause(0, waits(0, 1), waits(1, 0, silent_s=2.0))
    assert (found.cause, found.ranks) == (Cause.SILENT, (1,))
    assert cause(0, waits(0, 1), waits(1, 0, silent_s=1.0)).cause is Cause.DEADLOCK


def test_waiting_for_those_that_have_finished():
    signs = (waits(0, 1), silent(1, 50, has_left=True))
    found = cause(0, *signs)
    assert (found.cause, found.age_s) == (Cause.DEADLOCK, 20)
    assert "have finished" in found.text


def test_goodbye_excuses_silence_and_the_end_of_a_process():
    left = silent(1, 50, has_left=True, process=GONE)
    assert cause(0, waits(0, 2), left, works(2, 5)).ranks == (2,)


def test_all_other_hosts_silent_means_that_this_one_is_cut_off():
    signs = (
        waits(0, 2, host="a"), waits(1, 2, host="a"),
        silent(2, 20, host="b"), silent(3, 22, host="c"),
    )  # fmt: skip
    found = cause(0, *signs)
    assert (found.cause, found.ranks, found.age_s) == (Cause.CUT_OFF, (0,), 20)
    assert "network of a is down" in found.text


def test_one_other_host_silent_is_that_hosts_fault():
    signs = (waits(0, 2, host="a"), silent(1, 20, host="b"), silent(2, 20, host="b"))
    assert cause(0, *signs).ranks == (2,)


def test_one_of_two_other_hosts_silent_is_that_hosts_fault():
    signs = (waits(0, 1, host="a"), silent(1, host="b"), waits(2, 1, host="c"))
    assert cause(0, *signs).ranks == (1,)


def test_a_rank_that_blames_another_is_believed_even_when_gone():
    signs = [works(0), silent(1, 1, blames=2, blames_for=Cause.STOPPED), silent(2, 5)]
    for state in ("", GONE):
        signs[1] = replace(signs[1], process=state)
        found = cause(0, *signs)
        assert (found.cause, found.ranks, found.age_s) == (
            Cause.STOPPED, (2,), math.inf,
        )  # fmt: skip
        assert found.text.endswith("was stopped (SIGSTOP), as rank 1 found")


def test_a_rank_that_fails_by_itself_says_so():
    found = cause(0, works(0), works(1, 1.5, blames=1, blames_for=Cause.FAULT))
    assert found.text.endswith("ended with an error of its own")
    assert found.age_s == 1.5  # it has time to tell the error itself
    assert found.ranks == (1,)


def test_a_death_counts_more_than_blame():
    signs = (works(0), silent(1, process=GONE, blames=2), silent(2, process=GONE))
    assert cause(0, *signs).ranks == (2,)


def test_ranks_that_only_wait_are_never_blamed():
    """Every way to put 4 ranks together with one culprit at least."""
    kinds = (lambda r: waits(r, *({0, 1, 2, 3} - {r})), works, silent)
    for kind in itertools.product(kinds, repeat=3):
        signs = [waits(0, 1, 2, 3), *(k(r) for r, k in enumerate(kind, 1))]
        found = root_cause(0, signs, LIMITS)
        if found.cause is not Cause.DEADLOCK:
            assert all(not signs[r].is_waiting for r in found.ranks)
        else:
            assert all(sign.is_waiting for sign in signs)


def test_limits_leave_time_to_end_within_the_timeout():
    limits = Limits.of(ClusterSettings(comm_timeout_s=120, stall_warning_s=7))
    assert limits == Limits(0.5, 30, 7, 116)
    assert Limits.of(ClusterSettings(comm_timeout_s=5)).end_s == pytest.approx(3.5)
    assert Limits.of(ClusterSettings(comm_timeout_s=5)).silent_s == 3


@pytest.mark.parametrize(
    ("other", "unheard", "words"),
    [
        (silent(1, 0.4, process=GONE), set(), "host localhost, pid 101) has died"),
        (silent(1, 2, process="T"), set(), "is stopped (SIGSTOP)"),
        (silent(1, 9), {1}, "has been silent for 9 s"),
        (works(1), {1}, "rank 1 (host localhost, pid 101) does not answer"),
        (works(1, has_left=True), {1}, "while all other ranks lived"),
        (works(1, 500), set(), "while all other ranks lived"),
    ],
)  # fmt: skip
def test_last_words(other, unheard, words):
    said = last_words(0, [works(0), other, works(2)], unheard, LIMITS)
    assert words in said
    assert said.startswith("ended by ")


def test_names_are_those_people_look_for():
    assert name_of(Sign(2, "b", 123)) == "rank 2 (host b, pid 123)"


def test_speakers_are_the_ranks_of_this_machine_that_can_speak():
    signs = [
        silent(0, process=GONE), silent(1, process="T"), works(2, process="S"),
        works(3, host="b"), works(4), works(5, process="R"),
    ]  # fmt: skip
    assert speakers(4, signs) == [2, 4, 5]
