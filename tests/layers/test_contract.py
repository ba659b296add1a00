"""What every layer type must do, shown on its own examples."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from poseidon_caffe.backend.protocols import Ops
from poseidon_caffe.backend.reference import ReferenceOps
from poseidon_caffe.errors import LayerError, ShapeError
from poseidon_caffe.layers.base import Example, Layer
from poseidon_caffe.layers.registry import known_types, layer_class
from poseidon_caffe.schema.wire import array_to_blob, blob_to_array
from poseidon_caffe.types import Shape
from tests.devices import gpu_ops
from tests.gradcheck import numeric_gradient
from tests.layers.harness import (
    Run,
    all_examples,
    build_example,
    differentiable,
    example_id,
    fill_bottoms,
    inputs,
    top_weights,
)

EXAMPLES = all_examples()


@pytest.fixture(params=["reference", "gpu"])
def ops(request: pytest.FixtureRequest) -> Ops:
    """The backends that the contract holds on; the cpu is compared with the first."""
    return gpu_ops() if request.param == "gpu" else ReferenceOps()


SENTINEL = 7.0

Pair = tuple[type[Layer], Example]


def has_backward(cls: type[Layer]) -> bool:
    return cls.backward is not Layer.backward


def learns(pair: Pair) -> bool:
    cls, example = pair
    if not has_backward(cls) or cls.has_statistics:
        return False
    return bool(build_example(cls, example).layer.blobs)


def over(choose: Callable[[Pair], bool]) -> pytest.MarkDecorator:
    """Run a test on the chosen examples."""
    chosen = [pair for pair in EXAMPLES if choose(pair)]
    return pytest.mark.parametrize("pair", chosen, ids=example_id)


every = over(lambda _: True)
with_bottoms = over(lambda pair: bool(pair[1].bottoms))
certain = over(lambda pair: not pair[1].stochastic)
smooth = over(lambda pair: pair[1].check_gradient and has_backward(pair[0]))
in_place = over(lambda pair: pair[1].in_place)
learning = over(learns)
passing_down = over(lambda pair: has_backward(pair[0]) and bool(pair[1].bottoms))


def ready(pair: Pair, **more: Any) -> Run:
    """Built and filled."""
    cls, example = pair
    run = build_example(cls, example, **more)
    fill_bottoms(run, inputs(example))
    return run


def batch_times(factor: int, example: Example) -> list[Shape]:
    """The bottoms' shapes with ``factor`` times the batch."""
    first = example.bottoms[0][:1] if example.bottoms else ()
    axes = example.batch_axes or (0,) * len(example.bottoms)
    shapes = [list(shape) for shape in example.bottoms]
    for shape, axis in zip(shapes, axes, strict=True):
        if example.batch_axes or tuple(shape[:1]) == first:
            shape[axis] *= factor
    return [tuple(shape) for shape in shapes]


def there_and_back(run: Run, pair: Pair) -> dict[str, Any]:
    """Everything that a forward and a backward leave behind."""
    cls, example = pair
    run.clear_param_diffs()
    result = {f"top {i}": y for i, y in enumerate(run.forward())}
    if has_backward(cls):
        down = differentiable(cls, example)
        run.set_top_diffs(top_weights(run))
        for i, dx in enumerate(run.backward(down)):
            if down[i]:
                result[f"bottom diff {i}"] = dx
        if not cls.has_statistics:
            for i, dw in enumerate(run.param_diffs()):
                result[f"param diff {i}"] = dw
    for i, w in enumerate(run.params()):
        result[f"param {i}"] = w
    return result


def assert_same(a: dict[str, Any], b: dict[str, Any], rtol: float, atol: float) -> None:
    assert a.keys() == b.keys()
    for key, got in a.items():
        scale = np.abs(b[key]).max(initial=0)
        np.testing.assert_allclose(
            got, b[key], rtol=rtol, atol=atol * max(scale, 1e-3), err_msg=key
        )


@pytest.mark.parametrize("name", known_types())
def test_every_type_has_examples_and_says_what_it_does(name: str) -> None:
    if name == "Data":
        pytest.importorskip("lmdb")
    cls = layer_class(name)
    assert cls.examples(), f"{name} has no examples()"
    assert cls.type == name
    for word in ("caffe parity:", "tops:"):
        assert word in (cls.__doc__ or "").lower(), f"{name}: docstring lacks {word!r}"


@every
def test_forward_gives_finite_tops_and_repeats_itself(pair: Pair, ops: Ops) -> None:
    run = ready(pair, ops=ops)
    first = run.forward()
    assert all(np.isfinite(y).all() for y in first)
    if pair[1].stochastic:
        return
    fill_bottoms(run, inputs(pair[1]))
    for a, b in zip(first, ready(pair, ops=ops).forward(), strict=True):
        np.testing.assert_array_equal(a, b)


@smooth
def test_gradients_are_the_numeric_ones(pair: Pair, ops: Ops) -> None:
    cls, example = pair
    run = ready(pair, ops=ops, dtype=np.float64)
    weights = top_weights(run)

    def loss() -> float:
        tops = run.forward()
        return float(sum((w * y).sum() for w, y in zip(weights, tops, strict=True)))

    start, state = run.params(), run.layer.state()
    down = differentiable(cls, example)
    run.clear_param_diffs()
    loss()
    run.set_top_diffs(weights)
    found = [*run.backward(down), *run.param_diffs()]
    blobs = [*run.bottom, *run.layer.blobs]
    wanted = [*down, *[not cls.has_statistics] * len(run.layer.blobs)]
    for i, (blob, analytic) in enumerate(zip(blobs, found, strict=True)):
        if not wanted[i]:
            continue

        def moved(x: Any, blob: Any = blob) -> float:
            run.set_params(start)
            run.layer.restore_state(state)
            fill_bottoms(run, inputs(example))
            blob.mutable_cpu_data[...] = x
            blob.touch()
            return loss()

        values = inputs(example)[i] if i < len(down) else start[i - len(down)]
        numeric = numeric_gradient(moved, values)
        np.testing.assert_allclose(
            analytic, numeric, rtol=1e-4, atol=1e-6, err_msg=f"blob {i}"
        )


@in_place
def test_in_place_equals_out_of_place(pair: Pair, ops: Ops) -> None:
    cls, _ = pair
    assert cls.allows_in_place
    apart = there_and_back(ready(pair, ops=ops), pair)
    together = there_and_back(ready(pair, ops=ops, in_place=True), pair)
    assert_same(together, apart, 1e-5, 1e-6)


@certain
def test_channels_last_memory_changes_nothing(pair: Pair, ops: Ops) -> None:
    plain = there_and_back(ready(pair, ops=ops, channels_last=False), pair)
    stored = there_and_back(ready(pair, ops=ops, channels_last=True), pair)
    assert_same(stored, plain, 1e-5, 2e-6)


@certain
def test_cpu_agrees_with_the_reference(pair: Pair, cpu: Ops) -> None:
    reference = there_and_back(ready(pair), pair)
    for layout in (True, False):
        fast = there_and_back(ready(pair, ops=cpu, channels_last=layout), pair)
        assert_same(fast, reference, 1e-4, 2e-5)


@certain
def test_gpu_agrees_with_the_reference(pair: Pair) -> None:
    reference = there_and_back(ready(pair), pair)
    for layout in (True, False):
        fast = there_and_back(ready(pair, ops=gpu_ops(), channels_last=layout), pair)
        assert_same(fast, reference, 1e-4, 2e-5)


@passing_down
def test_backward_reads_no_more_than_it_says(pair: Pair, ops: Ops) -> None:
    """The memory plan reuses what a layer says that its backward does not read."""
    run, want = ready(pair, ops=ops), ready(pair, ops=ops)
    if pair[1].stochastic:
        return
    down = differentiable(*pair)
    for each in (run, want):
        each.clear_param_diffs()
        each.forward()
        each.set_top_diffs(top_weights(each))
    if not run.layer.backward_reads_bottom:
        for blob in run.bottom:
            blob.mutable_cpu_data[...] = np.nan
    if not run.layer.backward_reads_top:
        for blob in run.top:
            blob.mutable_cpu_data[...] = np.nan
    for a, b in zip(run.backward(down), want.backward(down), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(run.param_diffs(), want.param_diffs(), strict=True):
        np.testing.assert_array_equal(a, b)


@passing_down
def test_only_asked_bottoms_get_gradients(pair: Pair, ops: Ops) -> None:
    cls, example = pair
    for chosen in range(-1, len(example.bottoms)):
        down = [
            i == chosen and able for i, able in enumerate(differentiable(cls, example))
        ]
        run = ready(pair, ops=ops)
        run.forward()
        run.set_top_diffs(top_weights(run))
        shared = {id(blob.diff_storage) for blob in run.top}
        for blob in run.bottom:
            if id(blob.diff_storage) not in shared:
                blob.mutable_cpu_diff[...] = SENTINEL
        for i, (blob, dx) in enumerate(
            zip(run.bottom, run.backward(down), strict=True)
        ):
            if not down[i] and id(blob.diff_storage) not in shared:
                assert (dx == SENTINEL).all(), f"bottom {i} with {down}"


@learning
def test_parameter_gradients_add_up_and_can_be_switched_off(
    pair: Pair, ops: Ops
) -> None:
    cls, example = pair
    run = ready(pair, ops=ops)
    once = there_and_back(ready(pair, ops=ops), pair)
    down = differentiable(cls, example)
    for left_out in range(-1, len(run.layer.blobs)):
        run = ready(pair, ops=ops)
        run.forward()
        run.set_top_diffs(top_weights(run))
        run.clear_param_diffs()
        for i in range(len(run.layer.blobs)):
            run.layer.param_propagate_down[i] = i != left_out
        if left_out >= 0:
            run.layer.blobs[left_out].mutable_cpu_diff[...] = SENTINEL
        run.backward(down)
        run.set_top_diffs(top_weights(run))
        run.backward(down)
        shared = {id(blob.diff_storage) for blob in run.top}
        for i, dw in enumerate(run.param_diffs()):
            if id(run.layer.blobs[i].diff_storage) in shared:
                continue
            if cls.type == "Parameter":
                continue  # its gradient is the top's, made anew in each pass
            if i == left_out:
                assert (dw == SENTINEL).all()
            else:
                twice = 2 * once[f"param diff {i}"]
                np.testing.assert_allclose(dw, twice, rtol=1e-4, atol=1e-5)


@with_bottoms
def test_an_empty_batch_runs(pair: Pair, ops: Ops) -> None:
    cls, example = pair
    run = build_example(cls, example, ops=ops, bottoms=batch_times(0, example))
    assert all(np.isfinite(y).all() for y in run.forward())
    if has_backward(cls):
        run.clear_param_diffs()
        run.set_top_diffs([np.ones(blob.shape) for blob in run.top])
        run.backward(differentiable(cls, example))
        assert all((np.nan_to_num(dw, nan=1) == 0).all() for dw in run.param_diffs())


@every
def test_a_larger_batch_after_a_smaller_one_runs(pair: Pair, ops: Ops) -> None:
    cls, example = pair
    run = ready(pair, ops=ops)
    run.forward()
    for blob, shape in zip(run.bottom, batch_times(2, example), strict=True):
        blob.reshape(shape)
    try:
        run.reshape()
    except ShapeError:
        # A parameter that has the batch axis cannot follow.
        assert run.layer.blobs
        return
    for blob in run.bottom:
        blob.mutable_cpu_data[...] = 1
    assert all(np.isfinite(y).all() for y in run.forward())
    if has_backward(cls):
        run.set_top_diffs(top_weights(run))
        run.backward(differentiable(cls, example))


@every
def test_parameters_survive_a_file(pair: Pair, ops: Ops) -> None:
    run = ready(pair, ops=ops)
    stored = [
        array_to_blob(blob.cpu_data).SerializeToString() for blob in run.layer.blobs
    ]
    other = ready(pair, ops=ops, seed=99)
    kinds = [type(array_to_blob(b.cpu_data)) for b in other.layer.blobs]
    other.set_params(
        [
            blob_to_array(kind.FromString(data))
            for kind, data in zip(kinds, stored, strict=True)
        ]
    )
    for a, b in zip(run.params(), other.params(), strict=True):
        np.testing.assert_array_equal(a, b)
    if not pair[1].stochastic:
        for a, b in zip(run.forward(), other.forward(), strict=True):
            np.testing.assert_array_equal(a, b)


@every
def test_state_is_json_and_resumes(pair: Pair, ops: Ops) -> None:
    run = ready(pair, ops=ops)
    run.forward()
    state = json.loads(json.dumps(run.layer.state()))
    other = ready(pair, ops=ops)
    other.layer.restore_state(state)
    other.set_params(run.params())
    for r in (run, other):
        fill_bottoms(r, inputs(pair[1]))
    for i, (a, b) in enumerate(zip(run.forward(), other.forward(), strict=True)):
        np.testing.assert_array_equal(a, b, err_msg=f"top {i}")


@every
def test_wrong_numbers_of_blobs_are_refused(pair: Pair) -> None:
    cls, example = pair
    layer = ready(pair).layer
    tops = len(ready(pair).top)
    if cls.num_bottom is not None or cls.max_bottom is not None:
        with pytest.raises(LayerError, match=f'layer "layer" .{cls.type}.* bottom'):
            layer.check_arity(len(example.bottoms) + 9, tops)
    if cls.num_top is not None or cls.max_top is not None:
        with pytest.raises(LayerError, match="top"):
            layer.check_arity(len(example.bottoms), tops + 9)
