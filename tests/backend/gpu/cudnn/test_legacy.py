from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.geometry import ConvGeometry
from poseidon_caffe.backend.gpu.cudnn.choices import Choice
from poseidon_caffe.backend.gpu.cudnn.constants import MathType
from poseidon_caffe.backend.gpu.cudnn.handle import Handle
from poseidon_caffe.backend.gpu.cudnn.layout import Layout, dense_strides
from poseidon_caffe.backend.gpu.cudnn.legacy import LegacyPlan, fastest
from poseidon_caffe.backend.gpu.cudnn.library import AlgorithmTime
from poseidon_caffe.backend.gpu.cudnn.plan import Direction, Request
from poseidon_caffe.backend.gpu.cudnn.settings import CudnnSettings

FMA, DEFAULT, TENSOR, CONVERT = (
    MathType.FMA, MathType.DEFAULT, MathType.TENSOR_OP,
    MathType.TENSOR_OP_ALLOW_CONVERSION,
)  # fmt: skip


def times(*records):
    return [
        AlgorithmTime(number, status, 1.0, memory, determinism, math)
        for number, status, memory, determinism, math in records
    ]


@pytest.mark.parametrize(
    ("settings", "math", "expected"),
    [
        (CudnnSettings(), FMA, 4),
        (CudnnSettings(tf32=True), DEFAULT, 2),
        (CudnnSettings(tf32=True, workspace_limit=200), DEFAULT, 3),
        (CudnnSettings(deterministic=True), FMA, 5),
        (CudnnSettings(deterministic=True, workspace_limit=10), FMA, None),
    ],
)
def test_the_fastest_that_is_allowed(settings, math, expected):
    results = times(
        (0, 3000, 0, 1, FMA),
        (1, 0, 0, 1, CONVERT),
        (2, 0, 300, 0, DEFAULT),
        (3, 0, 100, 0, TENSOR),
        (4, 0, 100, 0, FMA),
        (5, 0, 100, 1, FMA),
    )
    found = fastest(results, settings, math)
    assert (None if found is None else found.algorithm) == expected


@pytest.mark.parametrize(
    ("dtype", "tf32", "expected", "precision"),
    [
        (np.float32, False, FMA, "fp32"),
        (np.float32, True, DEFAULT, "tf32"),
        (np.float64, False, DEFAULT, "fp64"),
        (np.float16, False, TENSOR, "fp16"),
        (np.uint16, False, TENSOR, "bf16"),
    ],
)
def test_what_each_precision_may_compute_with(dtype, tf32, expected, precision):
    settings = CudnnSettings(tf32=tf32)
    assert settings.math_type(dtype) is expected
    assert settings.precision(dtype) == precision


def lay(shape):
    return Layout(shape, dense_strides(shape, channels_last=False), False)


@pytest.mark.parametrize(
    ("tf32", "math", "taken"),
    [
        (False, FMA, True),
        (False, DEFAULT, False),
        (False, TENSOR, False),
        (True, DEFAULT, True),
        (True, CONVERT, False),
        (True, 17, False),
    ],
)
def test_no_kept_choice_brings_another_arithmetic(standin, tf32, math, taken):
    """Choices come from a file."""
    settings = CudnnSettings(tf32=tf32)
    handle = Handle(standin.StandIn(), standin.StandInDevice(), settings)
    g = ConvGeometry((2, 4, 6, 6), 8, (3, 3), (1, 1), (0, 0), (1, 1))
    request = Request(
        Direction.FORWARD, g, np.dtype(np.float32), lay(g.x_shape), lay(g.y_shape)
    )
    assert LegacyPlan(handle, request).take(Choice(1, math)) is taken
    handle.close()
