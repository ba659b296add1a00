"""Embed: lookups, repeated rows, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.errors import LayerError
from tests.layers.harness import build


def embed(shape, text="", **more):
    param = f"embed_param {{ input_dim: 4 num_output: 3 {text} }}"
    run = build("Embed", param, [shape], **more)
    rng = np.random.default_rng(2)
    run.set_params([rng.standard_normal(b.shape) for b in run.layer.blobs])
    return run


@pytest.mark.parametrize("shape", [(5,), (2, 3), (1, 2, 3, 2), ()])
@pytest.mark.parametrize("bias", [True, False])
def test_rows_and_bias(shape, bias, cpu):
    for ops in (None, cpu):
        run = embed(shape, f"bias_term: {str(bias).lower()}", ops=ops)
        index = np.random.default_rng(3).integers(0, 4, shape)
        run.bottom[0].data[...] = index
        w, *b = run.params()
        assert w.shape == (4, 3)
        want = w[index] + (b[0] if b else 0)
        assert run.top[0].shape == (*shape, 3)
        np.testing.assert_allclose(run.forward()[0], want, rtol=1e-6)


def test_gradients_of_repeated_rows_add_up(cpu):
    for ops in (None, cpu):
        run = embed((2, 3), ops=ops)
        run.bottom[0].data[...] = [[1, 3, 1], [1, 0, 3]]
        run.clear_param_diffs()
        run.forward()
        dy = np.arange(18.0).reshape(2, 3, 3)
        run.set_top_diffs([dy])
        for times in (1, 2):
            run.backward([False])
            dw, db = run.param_diffs()
            want = [dy[1, 1], dy[0, 0] + dy[0, 2] + dy[1, 0], 0, dy[0, 1] + dy[1, 2]]
            for row, expected in zip(dw, want, strict=True):
                np.testing.assert_array_equal(row, times * np.asarray(expected))
            np.testing.assert_array_equal(db, times * dy.sum((0, 1)))


def test_fractions_are_cut_off():
    run = embed((3,), "bias_term: false")
    run.bottom[0].data[...] = [-0.9, 1.99, 3.5]
    np.testing.assert_array_equal(run.forward()[0], run.params()[0][[0, 1, 3]])


@pytest.mark.parametrize("bad", [4, -1, np.nan])
def test_numbers_without_a_row_are_errors(bad):
    run = embed((3,))
    run.bottom[0].data[...] = [0, bad, 0]
    with pytest.raises(LayerError, match=r"position 1.*4 rows.*input_dim.*0\.\.3"):
        run.forward()


@pytest.mark.parametrize("text", ["num_output: 3", "input_dim: 3"])
def test_both_sizes_are_needed(text):
    with pytest.raises(LayerError, match="must be given and positive"):
        build("Embed", f"embed_param {{ {text} }}", [(2,)])


def test_numbers_get_no_gradient():
    run = embed((3,))
    assert not run.layer.allow_force_backward(0)
    run.forward()
    with pytest.raises(LayerError, match="row numbers"):
        run.backward([True])


def test_fillers_fill():
    text = 'weight_filler { type: "constant" value: 2 } bias_filler { value: 3 }'
    run = build("Embed", f"embed_param {{ input_dim: 4 num_output: 3 {text} }}", [(2,)])
    assert (run.params()[0] == 2).all()
    assert (run.params()[1] == 3).all()
