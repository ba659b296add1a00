"""Ranks that do not mean the same are refused, by rank, host, field and values."""

from __future__ import annotations

from dataclasses import replace

import pytest

from poseidon_caffe.comm.roster import (
    Fingerprint,
    compare,
    exchange,
    first_difference,
)
from poseidon_caffe.errors import ClusterError
from tests.comm.meeting import meet

SOLVER = 'net: "net.prototxt"\nbase_lr: 0.01\nmomentum: 0.9\n'
NET = """name: "Net"
layer {
  name: "ip1"
  type: "InnerProduct"
  inner_product_param {
    num_output: 10
  }
}
layer {
  name: "loss"
  type: "SoftmaxWithLoss"
}
"""
HOSTS = ["a", "a", "b", "b"]
TEXTS = {"solver": SOLVER, "train net": NET}
FLAGS = {"--staleness": "0", "--svb": "auto"}
COUNTS = {"digits of the train net": 100}


def of(**changes) -> Fingerprint:
    settings = {"settings": FLAGS, "texts": TEXTS, "counts": COUNTS, **changes}
    version = settings.pop("version", "1.2.0")
    return Fingerprint.of(version, **settings)


def others_with(rank: int, **changes) -> str:
    prints = [of() for _ in HOSTS]
    prints[rank] = of(**changes)
    return compare(prints, HOSTS)


def refusals(texts_of) -> list[object]:
    """What each of four ranks raises; ``texts_of(rank)`` are its prototxts."""

    def play(meeting, rank):
        texts = texts_of(rank)
        return exchange(meeting, of(texts=texts), texts, HOSTS)

    return meet(4, play)


def test_ranks_that_agree_go_on():
    assert refusals(lambda _rank: TEXTS) == [None] * 4
    assert compare([of() for _ in HOSTS], HOSTS) == ""


def test_it_travels_whole():
    own = of(is_server=True, own_sources=("x",))
    assert Fingerprint.from_json(own.to_json()) == replace(own, own_sources=["x"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"version": "1.3.0"},
            "rank 2 (host b): Poseidon's version is 1.3.0, 1.2.0 on rank 0; install",
        ),
        (
            {"settings": {**FLAGS, "--staleness": "3"}},
            "rank 2 (host b): --staleness is 3, 0 on rank 0",
        ),
        ({"settings": {"--svb": "auto"}}, "--staleness is unknown, 0 on rank 0"),
        (
            {"settings": {**FLAGS, "the backend": "numpy"}},
            "rank 2 (host b): the backend is numpy, unknown on rank 0",
        ),
        (
            {"counts": {"digits of the train net": 99}},
            "rank 2 (host b): layer digits of the train net has 99 records, 100 on",
        ),
    ],
)
def test_the_rank_the_field_and_both_values_are_named(changes, said):
    assert said in others_with(2, **changes)


def test_several_ranks_that_differ_alike_are_named_together():
    prints = [of(), of(), of(version="2"), of(version="2")]
    assert compare(prints, HOSTS).startswith("ranks 2, 3 (host b): Poseidon's version")
    prints = [of(), of(version="2"), of(version="2"), of(version="3")]
    assert compare(prints, HOSTS).startswith("ranks 1, 2 (hosts a, b): ")
    many = [of(), *(of(version="2") for _ in range(9))]
    assert compare(many, ["a"] * 10).startswith("ranks 1, 2, 3, 4, ... (host a): ")


def test_sources_of_their_own_may_differ_in_size_and_servers_have_none():
    name = "digits of the train net"
    other = {name: 7}
    assert others_with(1, counts=other, own_sources=[name]) == ""
    assert others_with(3, counts=other, is_server=True) == ""
    assert "7 records" in others_with(1, counts=other)


def test_a_differing_solver_is_shown_by_its_first_line_on_every_rank():
    changed = {**TEXTS, "solver": SOLVER.replace("0.01", "0.02")}
    found = refusals(lambda rank: changed if rank == 2 else TEXTS)
    assert all(isinstance(error, ClusterError) for error in found)
    (said,) = {str(error) for error in found}
    assert said.startswith(
        "rank 2 (host b): base_lr is 0.02 in its solver, 0.01 on rank 0; "
    )


def test_a_differing_net_tells_the_layer():
    changed = {**TEXTS, "train net": NET.replace("num_output: 10", "num_output: 20")}
    found = refusals(lambda rank: changed if rank else TEXTS)
    assert str(found[0]).startswith(
        "ranks 1, 2, 3 (hosts a, b): num_output is 20 in its train net in layer ip1, "
        "10 on rank 0"
    )


def test_a_net_that_only_some_have():
    more = {**TEXTS, "test net #0": NET}
    said = str(refusals(lambda rank: more if rank == 1 else TEXTS)[3])
    assert "rank 1 (host a): line 1 of its test net #0" in said
    assert "missing on rank 0" in said


@pytest.mark.parametrize(
    ("theirs", "ours", "said"),
    [
        ("a: 1\n", "a: 2\n", "a is 1 in its file, 2 on rank 0"),
        ("a: 1\nb: 2\n", "a: 1\n", "line 2 of its file as read is 'b: 2', missing on"),
        ("a: 1\n", "a: 1\nb: 2\n", "line 2 of its file as read is missing, 'b: 2' on"),
        ("a {\n}\n", "b: 2\n", "line 1 of its file as read is 'a {', 'b: 2' on"),
    ],
)
def test_first_difference(theirs, ours, said):
    assert said in first_difference("file", theirs, ours)


def test_only_the_layer_around_the_line_is_named():
    changed = NET.replace('type: "SoftmaxWithLoss"', 'type: "EuclideanLoss"')
    assert 'in layer loss, "Soft' in first_difference("net", changed, NET)
    renamed = NET.replace('name: "Net"', 'name: "Other"')
    assert "layer" not in first_difference("net", renamed, NET)
