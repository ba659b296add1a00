"""Cutting slots into rows and dealing them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poseidon_caffe.comm.rows import Piece, cut
from poseidon_caffe.errors import ClusterError
from poseidon_caffe.net.hooks import ParamSlot


def make_slot(index, shape, layer, *, users=None, statistics=False):
    return ParamSlot(
        index=index,
        name=f"layer{layer}/{index}",
        owner=layer,
        param_index=0,
        shape=shape,
        lr_mult=1.0,
        decay_mult=1.0,
        users=users or (layer,),
        ready_after=min(users or (layer,)),
        statistics=statistics,
    )


SHAPES = st.one_of(
    st.tuples(st.integers(0, 3000)),
    st.tuples(st.integers(1, 70), st.integers(1, 5), st.integers(1, 5)),
    st.tuples(st.integers(1, 300), st.integers(1, 300)),
    st.just(()),
)


@st.composite
def nets(draw):
    count = draw(st.integers(0, 12))
    slots, dtypes, layer = [], {}, 0
    for index in range(count):
        layer += draw(st.integers(0, 2))
        users = (layer, layer + 3) if draw(st.booleans()) else None
        slots.append(
            make_slot(
                index, draw(SHAPES), layer, users=users, statistics=draw(st.booleans())
            )
        )
        dtypes[index] = draw(st.sampled_from(["float32", "float32", "float64"]))
    return slots, dtypes


@st.composite
def plans(draw):
    slots, dtypes = draw(nets())
    owners = list(range(*draw(st.sampled_from([(0, 1), (0, 2), (0, 3), (3, 8)]))))
    merge_bytes = draw(st.sampled_from([0, 1000, 60_000, 10**7]))
    # Down to single elements, but not for a net of a million of them.
    total = sum(math.prod(slot.shape) for slot in slots)
    choices = [1, 100, 4096, 50_001, 1 << 20]
    row_bytes = draw(st.sampled_from([n for n in choices if n * 300 >= total]))
    rows = cut(slots, dtypes, owners, merge_bytes=merge_bytes, row_bytes=row_bytes)
    return slots, dtypes, owners, merge_bytes, row_bytes, rows


@given(plans())
def test_every_element_is_in_exactly_one_row(plan):
    slots, dtypes, _, _, _, rows = plan
    seen = {slot.index: np.zeros(math.prod(slot.shape), int) for slot in slots}
    for row in rows:
        assert row.count > 0
        for piece in row.pieces:
            assert 0 <= piece.start < piece.stop <= seen[piece.slot].size
            seen[piece.slot][piece.start : piece.stop] += 1
            assert dtypes[piece.slot] == row.dtype
    assert all((counts == 1).all() for counts in seen.values())


@given(plans())
def test_owners_serve_equal_bytes(plan):
    _, _, owners, _, _, rows = plan
    load = dict.fromkeys(owners, 0)
    for row in rows:
        load[row.owner] += row.size_bytes
    lines = 2 * 16 * 8
    assert max(load.values()) - min(load.values()) <= max(512 * len(owners), lines)


@given(plans())
def test_no_row_is_larger_than_allowed(plan):
    *_, row_bytes, rows = plan
    assert all(row.size_bytes <= row_bytes or row.count == 1 for row in rows)


@given(plans())
def test_merged_rows_hold_neighbours_of_one_kind(plan):
    slots, dtypes, *_, rows = plan
    by_index = {slot.index: slot for slot in slots}
    order = sorted(slots, key=lambda slot: (-slot.ready_after, slot.index))
    for row in rows:
        kind = [
            slot.index
            for slot in order
            if slot.statistics == row.is_mean
            and dtypes[slot.index] == row.dtype
            and math.prod(slot.shape)
        ]
        held = [piece.slot for piece in row.pieces]
        first = kind.index(held[0])
        assert held == kind[first : first + len(held)]
        assert {by_index[i].statistics for i in held} == {row.is_mean}


@given(plans())
def test_priority_is_the_first_layer_that_waits(plan):
    slots, *_, rows = plan
    users = {slot.index: slot.users for slot in slots}
    for i, row in enumerate(rows):
        assert row.index == i
        assert row.priority == min(min(users[p.slot]) for p in row.pieces)


@given(plans())
def test_no_more_is_merged_than_asked(plan):
    slots, dtypes, _, merge_bytes, _, rows = plan
    sizes = {
        s.index: math.prod(s.shape) * np.dtype(dtypes[s.index]).itemsize for s in slots
    }
    for row in rows:
        held = [piece.slot for piece in row.pieces]
        assert sum(sizes[i] for i in held[:-1]) < max(merge_bytes, 1)


@given(nets(), st.randoms())
def test_order_of_the_input_does_not_matter(net, random):
    slots, dtypes = net
    shuffled = random.sample(slots, len(slots))
    sizes = {"merge_bytes": 5000, "row_bytes": 4096}
    assert cut(slots, dtypes, [0, 1, 2], **sizes) == cut(
        shuffled, dtypes, [0, 1, 2], **sizes
    )


def test_rows_come_in_the_order_of_backward():
    slots = [make_slot(i, (1000,), layer=i) for i in range(4)]
    rows = cut(
        slots, dict.fromkeys(range(4), "float32"), [0, 1], merge_bytes=0, row_bytes=4000
    )
    assert [row.pieces[0].slot for row in rows] == [3, 3, 2, 2, 1, 1, 0, 0]
    assert [row.priority for row in rows] == [3, 3, 2, 2, 1, 1, 0, 0]


def test_a_big_slot_is_cut_into_rounds_on_cache_lines():
    slots = [make_slot(0, (4096, 1000), layer=5)]
    rows = cut(slots, {0: "float32"}, [2, 3, 4], merge_bytes=0, row_bytes=1 << 20)
    # 16,384,000 bytes in parts of at most 1 MiB: six rounds over three owners.
    assert len(rows) == 18
    assert [row.owner for row in rows].count(3) == 6
    assert all(row.pieces[0].start % 16 == 0 for row in rows)
    assert {row.size_bytes for row in rows} <= {910_208, 910_272}


def test_weights_and_bias_of_a_layer_share_rows():
    slots = [make_slot(0, (50, 40), layer=1), make_slot(1, (50,), layer=1)]
    dtypes = {0: "float32", 1: "float32"}
    rows = cut(slots, dtypes, [0, 1], merge_bytes=10_000, row_bytes=1 << 20)
    assert [row.pieces for row in rows] == [
        (Piece(0, 0, 1024),),
        (Piece(0, 1024, 2000), Piece(1, 0, 50)),
    ]


def test_small_buckets_go_whole_to_whoever_has_least():
    slots = [make_slot(i, (100 - i,), layer=i) for i in range(4)]
    rows = cut(
        slots, dict.fromkeys(range(4), "float32"), [7, 9], merge_bytes=0, row_bytes=999
    )
    assert [(row.owner, row.pieces[0].slot) for row in rows] == [
        (7, 3),
        (9, 2),
        (7, 1),
        (9, 0),
    ]


def test_statistics_and_types_never_share_a_row():
    slots = [
        make_slot(0, (10,), layer=3),
        make_slot(1, (10,), layer=2, statistics=True),
        make_slot(2, (10,), layer=1),
        make_slot(3, (10,), layer=0),
    ]
    dtypes = {0: "float32", 1: "float32", 2: "float32", 3: "float64"}
    rows = cut(slots, dtypes, [0], merge_bytes=10**6, row_bytes=10**6)
    assert [[piece.slot for piece in row.pieces] for row in rows] == [[0, 2], [1], [3]]
    assert [row.is_mean for row in rows] == [False, True, False]
    assert [row.dtype for row in rows] == ["float32", "float32", "float64"]


@pytest.mark.parametrize("owners", [[], [1, 1]])
def test_bad_owners_are_refused(owners):
    with pytest.raises(ClusterError, match="owners"):
        cut([], {}, owners, merge_bytes=0, row_bytes=1)


def test_bad_row_bytes_are_refused():
    with pytest.raises(ClusterError, match="Received: 0"):
        cut([], {}, [0], merge_bytes=0, row_bytes=0)
