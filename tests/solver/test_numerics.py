"""Losses that are no numbers."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.errors import NumericsError
from tests.solver.support import feed, make_solver, weights


def test_bad_data_is_named_and_weights_stay():
    solver = make_solver("momentum: 0.9")
    feed(solver)
    solver.step(2)
    solver.net.blobs["data"].data[3, 3] = np.nan
    before = weights(solver)
    with pytest.raises(NumericsError) as caught:
        solver.step(1)
    said = str(caught.value)
    assert said.startswith("iteration 2: the loss is nan; ")
    assert "blob data" in said
    assert "Lower base_lr (the rate is 0.1 now)" in said
    assert solver.iteration == 2
    for a, b in zip(before, weights(solver), strict=True):
        assert a.tobytes() == b.tobytes()


def test_bad_weights_are_named():
    solver = make_solver()
    feed(solver)
    solver.net.learnable[2].data[0, 0] = np.inf
    solver.net.learnable[2].touch()
    with pytest.raises(NumericsError, match="parameter 0 of layer ip2"):
        solver.step(1)
