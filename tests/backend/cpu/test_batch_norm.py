from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.geometry import BatchNormGeometry
from poseidon_caffe.backend.reference import ReferenceOps
from tests.backend.cpu.conftest import assert_near, inside, stored

SHAPES = [
    (2, 64, 14, 14),
    (1, 256, 7, 7),
    (8, 3, 9, 9),
    (4, 20, 5, 6),
    (2, 16, 3, 4, 4),
]
EPS = 1e-5
USE = {"batch": False, "stored": True}


class Case:
    """Inputs of one normalisation, and what the plain implementation makes of them."""

    def __init__(self, shape, *, use_stored=False, affine=False, seed=0):
        rng = np.random.default_rng(seed)
        self.geometry = BatchNormGeometry(shape, EPS, use_stored, affine)
        self.x, self.dy = 2 * rng.standard_normal((2, *shape)) + 1
        self.moments = rng.standard_normal(shape[1]), rng.random(shape[1]) + 0.5
        self.scale, self.shift = rng.standard_normal((2, shape[1]))
        self.affine = affine

    def run(self, kernel, dtype, layouts, *, in_place=False):
        """y, dx, mean, var (, dscale, dshift) with x, y, dy, dx laid out so."""
        lay_x, lay_y, lay_dy, lay_dx = layouts
        mean, var = (m.astype(dtype) for m in self.moments)
        scale, shift = (
            (self.scale.astype(dtype), self.shift.astype(dtype))
            if self.affine
            else (None, None)
        )
        grads = (np.full_like(mean, np.nan), np.full_like(mean, np.nan))
        x, dy = lay_x(self.x), lay_dy(self.dy)
        y = x if in_place else lay_y(np.full(x.shape, np.nan))
        dx = dy if in_place else lay_dx(np.full(x.shape, np.nan))
        kernel.forward(x, y, mean, var, scale, shift)
        seen = y.copy()
        kernel.backward(
            x, dy, dx, mean, var, scale, *(grads if self.affine else (None, None)),
            in_place=in_place,
        )  # fmt: skip
        return seen, dx, mean, var, *(grads if self.affine else ())

    def check(self, kernel, *layouts, in_place=False):
        want = self.run(
            ReferenceOps().batch_norm(self.geometry), float, (np.array,) * 4
        )
        four = layouts if len(layouts) == 4 else (*layouts, *layouts) * 2
        got = self.run(kernel, np.float32, four[:4], in_place=in_place)
        for a, b in zip(got, want, strict=True):
            assert_near(a, b, 10)


def plain(values):
    return stored(values, channels_last=False)


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("use", USE)
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_of_published_nets(ops, shape, use, affine, in_place):
    case = Case(shape, use_stored=USE[use], affine=affine)
    kernel = ops.batch_norm(case.geometry)
    for layout in (stored, plain, stored):
        case.check(kernel, layout, in_place=in_place)


@pytest.mark.parametrize("use", USE)
@pytest.mark.parametrize("affine", [False, True])
def test_slices_and_mixed_layouts(ops, use, affine):
    case = Case((3, 16, 4, 5), use_stored=USE[use], affine=affine)
    kernel = ops.batch_norm(case.geometry)
    for layouts in (
        (inside,) * 4,
        (stored, inside, stored, stored),
        (stored, stored, plain, stored),
        (stored, stored, stored, inside),
        (stored, stored, inside, plain),
        (plain, plain, stored, stored),
        (stored,) * 4,
    ):
        case.check(kernel, *layouts)
    case.check(kernel, inside, in_place=True)
    case.check(kernel, stored, in_place=True)


@pytest.mark.parametrize("affine", [False, True])
def test_gradients_of_other_layout_after_a_forward_in_place(ops, affine):
    """The kernel has kept the input that it overwrote."""
    case = Case((3, 16, 4, 5), affine=affine)
    kernel = ops.batch_norm(case.geometry)
    for seed in (1, 2):
        case = Case((3, 16, 4, 5), affine=affine, seed=seed)
        case.check(kernel, stored, stored, inside, inside, in_place=True)
        case.check(kernel, stored, stored, plain, plain, in_place=True)


def test_kernels_keep_their_inputs_apart(ops):
    cases = [Case((2, 16, 4, 4), seed=seed) for seed in (1, 2)]
    kernels = [ops.batch_norm(case.geometry) for case in cases]
    arrays = [stored(case.x) for case in cases]
    moments = [tuple(m.astype(np.float32) for m in case.moments) for case in cases]
    for kernel, x, m in zip(kernels, arrays, moments, strict=True):
        kernel.forward(x, x, *m)
    for case, kernel, x, m in zip(cases, kernels, arrays, moments, strict=True):
        dx = stored(case.dy)
        kernel.backward(x, dx, dx, *m, in_place=True)
        want = case.run(
            ReferenceOps().batch_norm(case.geometry), float, (np.array,) * 4
        )
        assert_near(dx, want[1], 10)


@pytest.mark.parametrize("layout", [stored, plain, inside])
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("affine", [False, True])
def test_scoring_with_a_relu(ops, affine, in_place, layout):
    case = Case((2, 32, 6, 6), use_stored=True, affine=affine)
    geometry = BatchNormGeometry(
        (2, 32, 6, 6), EPS, True, affine, relu=True, inference=True
    )
    mean, var, scale, shift = (
        v.astype(np.float32) for v in (*case.moments, case.scale, case.shift)
    )
    x = layout(case.x)
    y = x if in_place else layout(case.x * np.nan)
    given = (scale, shift) if affine else ()
    ops.batch_norm(geometry).forward(x, y, mean, var, *given)
    normed = (case.x - case.moments[0].reshape(-1, 1, 1)) / np.sqrt(
        case.moments[1].reshape(-1, 1, 1) + EPS
    )
    if affine:
        normed = normed * case.scale.reshape(-1, 1, 1) + case.shift.reshape(-1, 1, 1)
    assert_near(y, np.maximum(normed, 0), 4)


def test_a_shift_may_be_missing(ops):
    case = Case((2, 16, 4, 4), affine=True)
    case.shift[...] = 0
    mean, var = (np.zeros(16, np.float32) for _ in range(2))
    y = stored(case.x * np.nan)
    kernel = ops.batch_norm(case.geometry)
    kernel.forward(stored(case.x), y, mean, var, case.scale.astype(np.float32))
    want = case.run(ReferenceOps().batch_norm(case.geometry), float, (np.array,) * 4)
    assert_near(y, want[0], 10)
