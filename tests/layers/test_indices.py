from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.errors import LayerError
from poseidon_caffe.layers.indices import RowNumbers
from tests.layers.harness import build


def row_numbers(layer, values, rows, **options):
    return RowNumbers(layer, **options).of(values, rows)


@pytest.fixture
def layer():
    return build("Silence", "", [(1,)]).layer


def test_whole_parts_are_taken(layer):
    values = np.array([[0, 1.9], [-0.9, 3]], np.float32)
    index = row_numbers(layer, values, 4, what="rows")
    assert index.tolist() == [0, 1, 0, 3]
    assert index.dtype == np.int64


@pytest.mark.parametrize("bad", [-1, 4, np.nan, np.inf, -np.inf, 1e30])
def test_others_are_named(layer, bad):
    values = np.array([0, 1, bad, -7])
    with pytest.raises(LayerError, match=r'"layer".*at position 2.*4 rows.*0\.\.3'):
        row_numbers(layer, values, 4, what="rows")


def test_negative_fractions_may_be_refused(layer):
    values = np.array([-0.5])
    with pytest.raises(LayerError, match=r"index -0\.5"):
        row_numbers(layer, values, 4, what="rows", negative_fractions=False)
    assert row_numbers(
        layer, np.array([-0.0, 0.5]), 1, what="rows", negative_fractions=False
    ).tolist() == [0, 0]


def test_no_rows(layer):
    assert row_numbers(layer, np.zeros(0), 0, what="rows").size == 0
    with pytest.raises(LayerError, match="there are no rows"):
        row_numbers(layer, np.zeros(1), 0, what="rows")
