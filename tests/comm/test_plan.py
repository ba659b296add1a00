"""How each slot travels."""

from __future__ import annotations

from dataclasses import replace

import pytest

from poseidon_caffe.comm.link import LinkClass, Sizes
from poseidon_caffe.comm.model import Roles
from poseidon_caffe.comm.plan import make_plan
from poseidon_caffe.comm.settings import ClusterSettings
from poseidon_caffe.errors import ClusterError
from tests.comm.support import Tiny

LINK, SIZES = LinkClass("1 Gbit/s", 1.25e8), Sizes(merge_bytes=3000, row_bytes=2000)


def plan(tiny=None, *, rank=0, size=3, **settings):
    tiny = tiny or Tiny(statistics=True)
    frozen = settings.pop("frozen", frozenset())
    settings = ClusterSettings(**settings)
    roles = Roles.of(rank, size, settings.servers)
    return make_plan(tiny.model(frozen=frozen), roles, settings, LINK, SIZES)


def by_rows(made):
    found = {}
    for row in made.rows:
        for piece in row.pieces:
            found.setdefault(piece.slot, []).append((piece.start, piece.stop))
    return found


def check_cover(made, tiny, frozen=()):
    """Every element travels once: in a row, or in a factor pair."""
    rows = by_rows(made)
    factors = {slot.index for pair in made.pairs for slot in pair.slots}
    for slot, blob in zip(tiny.slots, tiny.blobs, strict=True):
        if slot.index in factors or slot.index in frozen:
            assert slot.index not in rows
            continue
        at = 0
        for start, stop in sorted(rows[slot.index]):
            assert start == at
            at = stop
        assert at == blob.count


@pytest.mark.parametrize("svb", ["on", "off", "auto"])
@pytest.mark.parametrize("servers", [0, 1])
def test_every_element_travels_once(svb, servers):
    made = plan(svb=svb, servers=servers)
    check_cover(made, Tiny(statistics=True))
    assert len(made.choices) == 3
    assert {row.owner for row in made.rows} <= set(Roles.of(0, 3, servers).servers)


def test_by_rows_only():
    made = plan(svb="off")
    assert made.pairs == []
    assert all(row.size_bytes <= 2000 for row in made.rows)
    assert {row.owner for row in made.rows} == {0, 1, 2}
    assert [row.is_mean for row in made.rows].count(True) == 1


def test_as_factors_with_their_biases():
    made = plan(Tiny(dense=(1,), statistics=True), svb="on")
    names = [[slot.name for slot in pair.slots] for pair in made.pairs]
    assert names == [["ip0/0", "ip0/1"], ["ip2/0", "ip2/1"]]
    assert set(by_rows(made)) == {2, 3, 6}
    made = plan(svb="on", frozen=frozenset({1}))
    assert [len(pair.slots) for pair in made.pairs] == [1, 2, 2]


def test_frozen_slots_stay_at_home():
    frozen = frozenset({0, 1, 3})
    made = plan(svb="off", frozen=frozen)
    check_cover(made, Tiny(statistics=True), frozen)


@pytest.mark.parametrize("svb", ["on", "off", "auto"])
def test_all_ranks_plan_alike(svb):
    first = plan(rank=0, size=4, svb=svb, servers=1)
    for rank in range(1, 4):
        other = plan(rank=rank, size=4, svb=svb, servers=1)
        assert list(other.rows) == list(first.rows)
        assert list(other.choices) == list(first.choices)


def test_the_users_row_bytes_count():
    made = plan(svb="off", row_bytes=160)
    assert max(row.size_bytes for row in made.rows) <= 160


def test_rows_hold_one_type_of_numbers():
    tiny = Tiny()
    other = Tiny(dtype="float32")
    tiny.blobs[2] = other.blobs[2]
    made = plan(tiny, svb="off")
    for row in made.rows:
        slots = {piece.slot for piece in row.pieces}
        assert (row.dtype == "float32") == (slots == {2})


def test_factors_and_staleness_contradict_each_other():
    with pytest.raises(ClusterError, match="--svb on with --staleness 2"):
        plan(svb="on", staleness=2)
    assert plan(svb="auto", staleness=2).pairs == []


def test_a_net_without_parameters():
    made = plan(Tiny(widths=(3,)))
    assert list(made.rows) == list(made.pairs) == list(made.choices) == []


def test_the_batch_is_counted_with_all_its_passes():
    """The more rows factors have, the less they are worth."""
    tiny = Tiny(widths=(500, 500))
    few = make_plan(
        tiny.model(), Roles.of(0, 3, 0), ClusterSettings(), LINK, SIZES
    )  # fmt: skip
    many = make_plan(
        replace(tiny.model(), iter_size=100),
        Roles.of(0, 3, 0), ClusterSettings(), LINK, SIZES,
    )  # fmt: skip
    assert len(few.pairs) == 1
    assert len(many.pairs) == 0
