"""Updating whole groups is updating each parameter."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.net.net import NetOptions
from tests.solver.support import feed, make_solver, weights

RULES = {
    "SGD": "momentum: 0.9 weight_decay: 0.01",
    "Nesterov": "momentum: 0.9",
    "AdaGrad": "weight_decay: 0.01",
    "RMSProp": "rms_decay: 0.9",
    "AdaDelta": "momentum: 0.9 delta: 1e-6",
    "Adam": "momentum: 0.9 weight_decay: 0.01 regularization_type: 'L1'",
}


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("rule", RULES)
def test_groups_train_as_single_parameters(rule, backend):
    ended = []
    for grouped in (False, True):
        solver = make_solver(
            f'type: "{rule}" base_lr: 0.02 iter_size: 2 {RULES[rule]}',
            backend=backend,
            net=NetOptions(share_memory=grouped),
        )
        assert bool(solver.net.groups) == grouped
        feed(solver)
        solver.step(4)
        ended.append(weights(solver) + [a.copy() for a in solver.history.shaped()])
    for one, other in zip(*ended, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-6, atol=1e-7)
