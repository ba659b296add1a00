"""What LSTM and RNN share: carried states, shapes, errors, parameters."""

from __future__ import annotations

import json

import numpy as np
import pytest

from poseidon_caffe.errors import LayerError, ShapeError
from poseidon_caffe.types import Phase
from tests.gradcheck import numeric_gradient
from tests.layers.harness import build

STATES = {"LSTM": 2, "RNN": 1}
kinds = pytest.mark.parametrize("kind", STATES)
H = 3


def settings(more=""):
    fill = 'weight_filler { type: "uniform" min: -0.7 max: 0.7 }'
    bias = 'bias_filler { type: "uniform" min: -0.2 max: 0.2 }'
    return f"recurrent_param {{ num_output: {H} {fill} {bias} {more} }}"


def sequence(kind, steps=4, streams=2, more="", extra=(), **rest):
    """A layer with random x, and cont 1 everywhere."""
    shapes = [(steps, streams, 2, 2), (steps, streams), *extra]
    tops = 1 + STATES[kind] * ("expose" in more)
    run = build(kind, settings(more), shapes, num_top=tops, **rest)
    rng = np.random.default_rng(3)
    for blob in run.bottom:
        blob.data[...] = rng.standard_normal(blob.shape)
    run.bottom[1].data[...] = 1
    return run


def exposed(kind, **rest):
    states = [(1, 2, H)] * STATES[kind]
    return sequence(kind, more="expose_hidden: true", extra=states, **rest)


@kinds
def test_steps_one_at_a_time_give_what_all_at_once_do(kind):
    whole = sequence(kind, steps=4)
    whole.bottom[1].data[...] = [[0, 0], [1, 1], [1, 0], [1, 1]]
    expected = whole.forward()[0]
    single = sequence(kind, steps=1)
    single.set_params(whole.params())
    for t in range(4):
        for one, all_steps in zip(single.bottom, whole.bottom, strict=True):
            one.data[...] = all_steps.data[t : t + 1]
        single.reshape()
        got = single.forward()[0]
        np.testing.assert_allclose(got, expected[t : t + 1], rtol=1e-5, atol=1e-6)


@kinds
def test_a_new_sequence_forgets_the_one_before(kind):
    run = sequence(kind)
    run.bottom[1].data[0] = 0
    first = run.forward()[0]
    np.testing.assert_array_equal(run.forward()[0], first)
    run.bottom[1].data[0] = 1
    assert (run.forward()[0] != first).any()


@kinds
@pytest.mark.parametrize("phase", list(Phase))
def test_states_go_from_one_forward_to_the_next(kind, phase):
    run, other = sequence(kind, phase=phase), exposed(kind, phase=phase)
    other.set_params(run.params())
    for mine, its in zip(run.bottom, other.bottom[:2], strict=True):
        its.data[...] = mine.data
    for blob in other.bottom[2:]:
        blob.data[...] = 0
    for _ in range(3):
        top, *last = other.forward()
        np.testing.assert_array_equal(run.forward()[0], top)
        for blob, values in zip(other.bottom[2:], last, strict=True):
            blob.data[...] = values


def with_streams(run, streams):
    """Reshape to the first ``streams`` streams, all bottoms ones."""
    for blob in run.bottom:
        blob.reshape((blob.shape[0], streams, *blob.shape[2:]))
        blob.data[...] = 1
    run.reshape()
    return run.forward()[0]


@kinds
def test_fewer_streams_keep_their_states_and_more_start_from_zero(kind):
    run, same = sequence(kind, streams=4), sequence(kind, streams=4)
    for r in (run, same):
        r.forward()
    np.testing.assert_allclose(
        with_streams(run, 2), with_streams(same, 4)[:, :2], rtol=1e-5, atol=1e-6
    )
    grown = with_streams(run, 6)
    np.testing.assert_array_equal(grown, with_streams(sequence(kind), 6))


@kinds
def test_resumes_with_its_states(kind):
    run = sequence(kind)
    run.forward()
    state = json.loads(json.dumps(run.layer.state()))
    expected = [run.forward()[0] for _ in range(2)]
    again = sequence(kind)
    again.layer.restore_state(state)
    for y in expected:
        np.testing.assert_array_equal(again.forward()[0], y)
    assert exposed(kind).layer.state() == {}
    with pytest.raises(LayerError, match="not of this layer"):
        run.layer.restore_state({"dtype": "float32", "hidden": []})


@kinds
def test_gradients_with_exposed_states_stop_at_them(kind):
    run = exposed(kind, dtype=np.float64)
    weight = np.random.default_rng(5).standard_normal(run.top[0].shape)

    def loss(x):
        run.bottom[0].data[...] = x
        return float((weight * run.forward()[0]).sum())

    x = run.bottom[0].data.copy()
    numeric = numeric_gradient(loss, x)
    loss(x)
    run.set_top_diffs([weight, *[7.0] * STATES[kind]])
    for blob in run.bottom[1:]:
        blob.diff[...] = 9
    dx, dcont, *rest = run.backward([True, False, *[True] * STATES[kind]])
    np.testing.assert_allclose(dx, numeric, rtol=1e-4, atol=1e-7)
    assert (dcont == 9).all()
    assert all((d == 0).all() for d in rest)


@kinds
def test_static_input_is_the_same_as_input_at_every_step(kind):
    run = sequence(kind, extra=[(2, 5, 1)])
    plain = build(kind, settings(), [(4, 2, 9), (4, 2)])
    x, cont, static = (blob.data for blob in run.bottom)
    tiled = np.broadcast_to(static.reshape(1, 2, 5), (4, 2, 5))
    plain.bottom[0].data[...] = np.concatenate([x.reshape(4, 2, 4), tiled], axis=2)
    plain.bottom[1].data[...] = cont
    w_x, b, w_static, *rest = run.params()
    plain.set_params([np.concatenate([w_x, w_static], axis=1), b, *rest])
    np.testing.assert_allclose(
        run.forward()[0], plain.forward()[0], rtol=1e-5, atol=1e-6
    )


@kinds
def test_parameters_are_in_the_order_of_caffe(kind):
    gates = 4 * H if kind == "LSTM" else H
    output = [] if kind == "LSTM" else [(H, H), (H,)]
    shapes = [b.shape for b in sequence(kind, extra=[(2, 5, 1)]).layer.blobs]
    assert shapes == [(gates, 4), (gates,), (gates, 5), (gates, H), *output]
    shapes = [b.shape for b in sequence(kind).layer.blobs]
    assert shapes == [(gates, 4), (gates,), (gates, H), *output]


@kinds
def test_no_streams_run(kind):
    run = sequence(kind)
    assert with_streams(run, 0).shape == (4, 0, H)
    run.clear_param_diffs()
    run.backward([True, False])
    assert all((d == 0).all() for d in run.param_diffs())


@kinds
def test_wrong_shapes_are_refused(kind):
    for shapes, match in (
        ([(4, 2), (4, 2)], "3 axes"),
        ([(4, 2, 3), (4, 3)], "cont must"),
        ([(4, 2, 3), (4, 2, 1)], "cont must"),
        ([(4, 2, 3), (4, 2), (3, 5)], "static"),
        ([(4, 2, 3), (4, 2), (2,)], "static"),
        ([(0, 2, 3), (0, 2)], "one time step"),
    ):
        with pytest.raises(ShapeError, match=match):
            build(kind, settings(), shapes)
    states = [(1, 2, H + 1)] * STATES[kind]
    with pytest.raises(ShapeError, match="state 0"):
        sequence(kind, more="expose_hidden: true", extra=states)
    with pytest.raises(LayerError, match="num_output"):
        build(kind, "", [(4, 2, 3), (4, 2)])


@kinds
def test_steps_and_data_sizes_stay(kind):
    for shape, match in (((3, 2, 2, 2), "time steps"), ((4, 2, 5), "values a step")):
        run = sequence(kind)
        run.bottom[0].reshape(shape)
        run.bottom[1].reshape(shape[:2])
        with pytest.raises(ShapeError, match=match):
            run.reshape()
    run = sequence(kind, extra=[(2, 5)])
    run.bottom[2].reshape((2, 6))
    with pytest.raises(ShapeError, match="static values"):
        run.reshape()


@kinds
def test_exposed_states_are_counted(kind):
    states, layer = STATES[kind], exposed(kind).layer
    layer.check_arity(3 + states, 1 + states)
    with pytest.raises(LayerError, match=r"bottoms.*expose_hidden is true"):
        layer.check_arity(2, 1 + states)
    with pytest.raises(LayerError, match=r"top.*expose_hidden is true"):
        layer.check_arity(2 + states, 1)
    with pytest.raises(LayerError, match="expose_hidden is false"):
        sequence(kind).layer.check_arity(2, 1 + states)


@kinds
def test_debug_info_notes_mean_magnitudes(kind):
    run, lines = sequence(kind, more="debug_info: true"), []
    run.layer.note = lines.append
    y = run.forward()[0]
    assert any(line.endswith(f"data: {np.abs(y).mean():g}") for line in lines)
    run.set_top_diffs([1.0])
    run.clear_param_diffs()
    run.backward([True, False])
    assert sum("[Backward]" in line for line in lines) == len(run.layer.blobs)


def test_cont_is_not_forced_to_have_a_gradient():
    layer = sequence("LSTM").layer
    assert [layer.allow_force_backward(i) for i in range(3)] == [True, False, True]
