"""Boards among real couriers: any payload, any members, rounds that interleave."""

from __future__ import annotations

import random
import time

import pytest

from poseidon_caffe.comm.board import Board
from tests.comm.couriers import on_couriers

FIRST_TAG = 100
SIZES = (0, 1, 7, 1015, 1016, 1017, 5000, 300_001)


def payload(seed, size=None):
    draw = random.Random(seed)
    return draw.randbytes(draw.choice(SIZES) if size is None else size)


def among(size, members, play, **network):
    """``play(board, rank)`` on the members; the others stand by."""

    def run(courier):
        if courier.rank not in members:
            return None
        return play(Board(courier, members, FIRST_TAG), courier.rank)

    return on_couriers(size, run, **network)


@pytest.mark.parametrize("members", [(0,), (0, 1), (1, 2), (0, 2, 3), (4, 0, 2, 1, 3)])
@pytest.mark.parametrize("seed", range(3))
def test_everybody_reads_everybody(members, seed):
    rounds = 12

    def play(board, rank):
        return [board.all_gather(k % 3, payload(f"{k}/{rank}")) for k in range(rounds)]

    found = among(5, members, play, seed=seed, delay_s=(0, 5e-4), eager_bytes=500)
    expected = [[payload(f"{k}/{rank}") for rank in members] for k in range(rounds)]
    for rank in range(5):
        assert found[rank] == (expected if rank in members else None)


def test_only_the_reader_gets_what_is_gathered():
    found = among(3, (1, 2, 0), lambda board, rank: board.gather(0, b"from %d" % rank))
    assert found == [None, [b"from 1", b"from 2", b"from 0"], None]


def test_only_the_readers_word_is_broadcast():
    def play(board, rank):
        return board.broadcast(3, payload("word", 5000) if rank == 2 else b"ignored")

    assert among(3, (2, 0, 1), play) == [payload("word", 5000)] * 3


def test_some_megabytes():
    big = payload("big", 3_000_000)

    def play(board, rank):
        return board.all_gather(0, big if rank else b"")

    assert among(3, (0, 1, 2), play) == [[b"", big, big]] * 3


def test_posts_come_long_before_they_are_read():
    count = 30

    def play(board, rank):
        if rank:
            return [board.gather(k % 2, payload(k)) for k in range(count)]
        time.sleep(0.02)
        return [board.gather(k % 2, b"") for k in range(count)]

    reader, *_ = among(2, (0, 1), play, eager_bytes=100)
    assert reader == [[b"", payload(k)] for k in range(count)]


@pytest.mark.parametrize("seed", range(6))
def test_rounds_of_one_topic_may_be_under_way_together(seed):
    """Long and short ones: the rest of each follows its own beginning."""
    count, workers = 25, 3

    def play(board, rank):
        rounds = [board.start_gather(0, payload(f"{k}/{rank}")) for k in range(count)]
        if rank:
            return rounds
        for each in rounds:
            board.finish(each)
        return [each.result() for each in rounds]

    reader, *others = among(
        workers, range(workers), play, seed=seed, delay_s=(0, 1e-3), eager_bytes=0
    )
    assert reader == [
        [payload(f"{k}/{rank}") for rank in range(workers)] for k in range(count)
    ]
    assert others == [[None] * count] * 2


def test_a_round_names_who_is_late():
    def play(board, rank):
        if rank == 2:
            board.broadcast(1, None)
        if rank:
            board.gather(0, b"here")
            return board.broadcast(2, None)
        round_ = board.start_gather(0, b"")
        board.courier.wait_for(lambda: round_.late() == 2, board_waits())
        assert not round_.done()
        board.broadcast(1, b"go on")
        board.finish(round_)
        assert round_.late() is None
        return board.broadcast(2, b"".join(round_.result()))

    assert among(3, (0, 1, 2), play) == [b"herehere"] * 3


def board_waits():
    from poseidon_caffe.comm.courier import Waiting

    return Waiting("a test")


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_barrier_opens_when_the_last_has_come(size):
    came = []

    def play(board, rank):
        seen = []
        for k in range(8):
            if (k + rank) % size == 0:
                time.sleep(0.002)
            came.append(k)
            board.barrier(5)
            seen.append(came.count(k))
        return seen

    assert among(size, range(size), play, delay_s=(0, 1e-3)) == [[size] * 8] * size


def test_two_boards_do_not_mix():
    def run(courier):
        everybody = Board(courier, range(3), 100)
        if courier.rank == 2:
            return everybody.all_gather(0, b"c")
        some = Board(courier, (0, 1), 200)
        first = some.all_gather(0, b"some %d" % courier.rank)
        return first + everybody.all_gather(0, b"ab"[courier.rank :][:1])

    a, b, c = on_couriers(3, run)
    assert a == b == [b"some 0", b"some 1", b"a", b"b", b"c"]
    assert c == [b"a", b"b", b"c"]
