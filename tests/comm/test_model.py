"""Roles, and rows in words."""

from __future__ import annotations

import pytest

from poseidon_caffe.comm.model import Roles
from poseidon_caffe.comm.rows import Piece, Row
from tests.comm.support import Tiny


@pytest.mark.parametrize("size", [1, 2, 5])
def test_without_servers_everybody_does_both(size):
    for rank in range(size):
        roles = Roles.of(rank, size, 0)
        assert roles.workers == roles.servers == tuple(range(size))
        assert roles.works
        assert roles.serves
        assert not roles.is_dedicated


@pytest.mark.parametrize("servers", [1, 2, 4])
def test_the_last_ranks_only_serve(servers):
    size = 5
    all_roles = [Roles.of(rank, size, servers) for rank in range(size)]
    for rank, roles in enumerate(all_roles):
        assert roles.workers + roles.servers == tuple(range(size))
        assert roles.works != roles.serves
        assert roles.serves == (rank >= size - servers)
        assert roles.is_dedicated


def test_a_row_in_words():
    model = Tiny().model()
    one = Row(3, 0, (Piece(2, 0, 5),), 0, is_mean=False, dtype="float64")
    more = Row(4, 0, (Piece(2, 5, 9), Piece(1, 0, 3), Piece(0, 0, 1)), 0, False, "f8")
    assert model.label(one) == "ip1/0, row 3"
    assert model.label(more) == "ip1/0 and 2 more, row 4"
