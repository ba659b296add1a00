"""Every layer type that may store 16 bits does so: near to float32, in any layout."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from poseidon_caffe.backend.half import BFLOAT16, HALF, narrow, widen
from poseidon_caffe.layers.base import Storage
from poseidon_caffe.layers.registry import known_types, layer_class
from poseidon_caffe.types import Array
from tests.devices import gpu_ops
from tests.layers.harness import (
    Run,
    all_examples,
    build_example,
    differentiable,
    example_id,
    fill_bottoms,
    inputs,
    layer_param,
    top_weights,
)
from tests.layers.test_contract import has_backward

STEP = {BFLOAT16: 2.0**-8, HALF: 2.0**-11}


def stores_half(pair: Any) -> bool:
    cls, example = pair
    tops = example.num_top or cls.num_top or 1
    param = layer_param(cls.type, example.param, len(example.bottoms), tops)
    return cls.storage_of(param) is not Storage.FLOAT


HALVES = [pair for pair in all_examples() if stores_half(pair)]
CERTAIN = [pair for pair in HALVES if not pair[1].stochastic]


def rounded(values: Array, dtype: np.dtype) -> Array:
    """What is left of numbers that are stored so, as float32."""
    flat = np.ascontiguousarray(values, np.float32).reshape(-1)
    bits, back = np.empty(flat.size, dtype), np.empty_like(flat)
    narrow(flat, bits)
    widen(bits, back)
    return back.reshape(values.shape)


def results(run: Run, pair: Any, dtype: np.dtype) -> list[Array]:
    """Tops and all gradients, of numbers that 16 bits hold."""
    cls, example = pair
    fill_bottoms(run, [rounded(values, dtype) for values in inputs(example)])
    run.clear_param_diffs()
    found = run.forward()
    if has_backward(cls):
        down = differentiable(cls, example)
        run.set_top_diffs([rounded(values, dtype) for values in top_weights(run)])
        diffs = run.backward(down)
        found += [dx for dx, wanted in zip(diffs, down, strict=True) if wanted]
        found += run.param_diffs()
    return found


@pytest.mark.parametrize(
    ("dtype", "layout"),
    [(BFLOAT16, True), (HALF, False)],
    ids=["bf16 channels last", "fp16 plain"],
)
@pytest.mark.parametrize("pair", CERTAIN, ids=example_id)
def test_results_are_near_those_of_float32(pair, dtype, layout):
    for in_place in {False, pair[1].in_place}:
        settings = {"ops": gpu_ops(), "channels_last": layout, "in_place": in_place}
        whole, half = (
            build_example(*pair, **settings, stored=stored) for stored in (None, dtype)
        )
        half.set_params(whole.params())
        want, got = (results(run, pair, dtype) for run in (whole, half))
        assert len(got) == len(want)
        for a, b in zip(got, want, strict=True):
            assert a.dtype == np.float32
            error, size = np.abs(a - b).max(initial=0), np.abs(b).max(initial=0)
            assert error <= 8 * STEP[dtype] * max(size, 0.1)
        assert all(blob.dtype == np.float32 for blob in half.layer.blobs)


@pytest.mark.parametrize("dtype", [BFLOAT16, HALF], ids=["bf16", "fp16"])
@pytest.mark.parametrize(
    "pair", [pair for pair in HALVES if pair[1].stochastic], ids=example_id
)
def test_random_ones_draw_the_same(pair, dtype):
    runs = [build_example(*pair, ops=gpu_ops(), stored=kind) for kind in (None, dtype)]
    want, got = (results(run, pair, dtype) for run in runs)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=4 * STEP[dtype], atol=STEP[dtype])


def test_what_must_be_exact_is_float32():
    floats = {
        name for name in known_types() if layer_class(name).storage is Storage.FLOAT
    }
    assert {"Accuracy", "Data", "SoftmaxWithLoss", "Softmax", "Embed"} <= floats
    assert not {"Convolution", "InnerProduct", "Split", "ReLU", "BatchNorm"} & floats
