"""RNN against its formulas."""

from __future__ import annotations

import numpy as np
import pytest

from tests.layers.harness import build

FILL = 'weight_filler { type: "uniform" min: -0.7 max: 0.7 }'


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_follows_its_formulas(backend, request):
    ops = request.getfixturevalue("cpu") if backend == "cpu" else None
    text = (
        f"recurrent_param {{ num_output: 4 {FILL} bias_filler {{ type: 'uniform' }} }}"
    )
    run = build("RNN", text, [(3, 2, 5), (3, 2)], ops=ops)
    rng = np.random.default_rng(4)
    x = run.bottom[0].data[...] = rng.standard_normal((3, 2, 5))
    cont = run.bottom[1].data[...] = np.array([[0, 0], [1, 0], [1, 0.5]])
    w_xh, b_h, w_hh, w_ho, b_o = run.params()
    h = np.zeros((2, 4))
    for t, o in enumerate(run.forward()[0]):
        h = np.tanh(x[t] @ w_xh.T + b_h + (cont[t][:, None] * h) @ w_hh.T)
        np.testing.assert_allclose(o, np.tanh(h @ w_ho.T + b_o), rtol=1e-4, atol=1e-6)


def test_output_bias_alone_may_learn():
    text = f"recurrent_param {{ num_output: 4 {FILL} }}"
    run = build("RNN", text, [(3, 2, 5), (3, 2)])
    run.bottom[0].data[...] = 1
    o = run.forward()[0]
    run.layer.param_propagate_down[:] = [False, False, False, False, True]
    run.clear_param_diffs()
    run.set_top_diffs([1.0])
    run.backward([False, False])
    *others, bias = run.param_diffs()
    np.testing.assert_allclose(bias, (1 - o * o).sum(axis=(0, 1)), rtol=1e-5)
    assert all((diff == 0).all() for diff in others)
