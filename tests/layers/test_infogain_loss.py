"""InfogainLoss: the formula, where H comes from, normalisation, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.errors import LayerError, PoseidonError, ShapeError
from poseidon_caffe.schema import messages
from poseidon_caffe.schema.wire import array_to_blob
from tests.layers.harness import build

GAIN = np.random.default_rng(8).standard_normal((5, 5)).astype(np.float32)


def infogain(text="", shape=(2, 5, 4, 3), places=(2, 4, 3), gain=(1, 1, 5, 5), **more):
    shapes = [shape, places] + ([gain] if gain else [])
    run = build("InfogainLoss", text, shapes, **more)
    rng = np.random.default_rng(9)
    run.bottom[0].data[...] = rng.standard_normal(shape)
    run.bottom[1].data[...] = rng.integers(0, 5, places)
    if gain:
        run.bottom[2].data[...] = GAIN.reshape(gain)
    return run


def expected(run, axis=1, ignore=None):
    """Loss and gradient, both still to be divided, and how many labels count."""
    x = np.moveaxis(run.bottom[0].data.astype(np.float64), axis, -1)
    prob = np.exp(x) / np.exp(x).sum(-1, keepdims=True)
    label = run.bottom[1].data.astype(int).reshape(x.shape[:-1])
    total, slope = 0.0, np.zeros(x.shape)
    for at in np.ndindex(label.shape):
        if label[at] != ignore:
            row = GAIN[label[at]].astype(np.float64)
            total -= float(row @ np.log(prob[at]))
            slope[at] = prob[at] * row.sum() - row
    return total, np.moveaxis(slope, -1, axis), int((label != ignore).sum())


@pytest.mark.parametrize(
    ("text", "divisor"),
    [
        ("", "counted"),
        ("normalization: VALID", "counted"),
        ("normalization: FULL", 24),
        ("normalization: BATCH_SIZE", 2),
        ("normalization: NONE", 1),
    ],
)
@pytest.mark.parametrize("ignore", [None, 3])
def test_normalisation(text, divisor, ignore, cpu):
    skip = "" if ignore is None else f"ignore_label: {ignore}"
    for ops in (None, cpu):
        run = infogain(f"loss_param {{ {text} {skip} }}", ops=ops)
        total, slope, counted = expected(run, ignore=ignore)
        by = counted if divisor == "counted" else divisor
        np.testing.assert_allclose(run.forward()[0], total / by, rtol=1e-5)
        run.top[0].diff[...] = 0.5
        dx = run.backward([True, False, False])[0]
        np.testing.assert_allclose(dx, 0.5 * slope / by, atol=1e-6)


@pytest.mark.parametrize(
    ("axis", "shape", "places"),
    [(-1, (4, 3, 5), (4, 3)), (2, (4, 2, 5, 3), (4, 2, 3)), (0, (5, 4), (5,))],
)
def test_other_axes(axis, shape, places, cpu):
    if axis == 0:
        # Caffe also wants the first axes to agree.
        with pytest.raises(ShapeError):
            infogain("infogain_loss_param { axis: 0 }", shape, (4,))
        return
    for ops in (None, cpu):
        text = f"infogain_loss_param {{ axis: {axis} }} softmax_param {{ axis: 0 }}"
        run = infogain(text, shape, places, ops=ops)
        total, slope, counted = expected(run, axis)
        np.testing.assert_allclose(run.forward()[0], total / counted, rtol=1e-5)
        run.top[0].diff[...] = 1
        dx = run.backward([True, False, False])[0]
        np.testing.assert_allclose(dx, slope / counted, atol=1e-6)


def write(path, array):
    path.write_bytes(array_to_blob(array).SerializeToString())
    return f'infogain_loss_param {{ source: "{path}" }}'


@pytest.mark.parametrize("shape", [(1, 1, 5, 5), (5, 5), (25,)])
def test_h_from_a_file_or_a_bottom(tmp_path, shape):
    text = write(tmp_path / "h.binaryproto", GAIN.reshape(shape))
    from_file = infogain(text, gain=None)
    # Its own file counts for nothing once there is a third bottom.
    from_bottom = infogain('infogain_loss_param { source: "none" }', gain=shape)
    assert from_file.forward()[0] == from_bottom.forward()[0]
    for run in (from_file, from_bottom):
        run.top[0].diff[...] = 1
    down = [True, False]
    np.testing.assert_array_equal(
        from_file.backward(down)[0], from_bottom.backward([*down, False])[0]
    )


def test_a_bottom_h_may_change():
    run = infogain()
    first = run.forward()[0]
    run.bottom[2].data[...] *= 2
    np.testing.assert_allclose(run.forward()[0], 2 * first, rtol=1e-6)


def test_the_unit_matrix_makes_it_softmax_with_loss():
    run = infogain()
    run.bottom[2].data[...] = np.eye(5)
    other = build("SoftmaxWithLoss", "", [(2, 5, 4, 3), (2, 4, 3)])
    for i in range(2):
        other.bottom[i].data[...] = run.bottom[i].data
    np.testing.assert_allclose(run.forward(), other.forward(), rtol=1e-6)
    for r in (run, other):
        r.top[0].diff[...] = 1
    np.testing.assert_allclose(
        run.backward([True, False, False])[0], other.backward([True, False])[0],
        atol=1e-7,
    )  # fmt: skip


def test_the_second_top_is_the_probabilities():
    _, prob = infogain(num_top=2).forward()
    np.testing.assert_allclose(prob.sum(axis=1), 1, rtol=1e-5)


def test_h_must_be_given_and_fit(tmp_path):
    with pytest.raises(LayerError, match=r"source.*third bottom"):
        infogain(gain=None)
    with pytest.raises(ShapeError, match="5 x 5 numbers"):
        infogain(gain=(1, 1, 4, 5))
    text = write(tmp_path / "h.binaryproto", np.eye(4, dtype=np.float32))
    with pytest.raises(ShapeError, match=r"\(4, 4\)"):
        infogain(text, gain=None)
    with pytest.raises(PoseidonError, match=r"\"layer\".*gone"):
        infogain('infogain_loss_param { source: "gone.binaryproto" }', gain=None)
    blob = messages.BlobProto(num=2, channels=2, height=2, width=2, data=[1.0])
    (tmp_path / "bad").write_bytes(blob.SerializeToString())
    with pytest.raises(PoseidonError, match="/bad"):
        infogain(f'infogain_loss_param {{ source: "{tmp_path}/bad" }}', gain=None)


def test_refusals():
    with pytest.raises(LayerError, match="normalization"):
        infogain("loss_param { normalize: true }")
    with pytest.raises(ShapeError, match="24 labels"):
        infogain(places=(2, 4))
    run = infogain()
    assert [run.layer.allow_force_backward(i) for i in range(3)] == [True, False, False]
    run.forward()
    for down in ([True, True, False], [True, False, True]):
        with pytest.raises(LayerError, match="cannot backpropagate"):
            run.backward(down)
    run.bottom[1].data[0, 0, 1] = 5
    with pytest.raises(LayerError, match=r"position 1.*0\.\.4"):
        run.forward()
