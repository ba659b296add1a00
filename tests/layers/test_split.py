"""Split shares data and sums gradients."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.errors import LayerError
from tests.layers.harness import build


def test_tops_share_the_bottom():
    run = build("Split", "", [(2, 3, 4, 5)], num_top=3)
    run.bottom[0].data[...] = 6
    for top in run.top:
        assert np.shares_memory(top.data, run.bottom[0].data)
        assert not np.shares_memory(top.diff, run.bottom[0].diff)


def test_gradients_are_summed():
    run = build("Split", "", [(2, 3)], num_top=3)
    run.set_top_diffs([np.array(v) for v in (1, 10, 100)])
    assert (run.backward()[0] == 111).all()


def test_not_in_place():
    with pytest.raises(LayerError, match="in place"):
        build("Split", "", [(2, 3)], num_top=2, in_place=True)
