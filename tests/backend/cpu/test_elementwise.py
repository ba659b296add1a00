from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.backend.cpu.conftest import assert_near, inside, stored


def plain(values):
    return stored(values, channels_last=False)


LAYOUTS = [stored, plain, inside]
# Small ones go through NumPy, large ones through the library.
SMALL, LARGE = (2, 16, 4, 5), (2, 48, 12, 11)
SHAPES = [SMALL, LARGE, (1, 64, 13, 13), (3, 1, 50, 40), (2, 16, 4, 8, 9)]


@pytest.mark.parametrize("shape", SHAPES)
def test_copies_between_layouts(ops, rng, shape):
    x = rng.standard_normal(shape).astype(np.float32)
    for source, target in itertools.product(LAYOUTS, repeat=2):
        out = target(x * np.nan)
        ops.copy(source(x), out)
        np.testing.assert_array_equal(out, x)


def test_copies_of_slices_leave_the_rest(ops, rng):
    x = rng.standard_normal(LARGE).astype(np.float32)
    wide = stored(np.full((2, 96, 12, 11), 7.0))
    ops.copy(stored(x), wide[:, 16:64])
    np.testing.assert_array_equal(wide[:, 16:64], x)
    assert (wide[:, :16] == 7).all()
    assert (wide[:, 64:] == 7).all()


@pytest.mark.parametrize("shape", [SMALL, LARGE])
def test_copies_under_another_shape_keep_c_order(ops, rng, shape):
    x = rng.standard_normal(shape).astype(np.float32)
    flat = (shape[0], -1)
    for layout in LAYOUTS:
        out = np.full_like(x, np.nan).reshape(flat)
        ops.copy(layout(x), out)
        np.testing.assert_array_equal(out, x.reshape(flat))
        back = layout(x * np.nan)
        ops.copy(out, back)
        np.testing.assert_array_equal(back, x)
    # Neither is in C order.
    swapped = (shape[0], shape[2], shape[1], shape[3])
    out = stored(np.full(swapped, np.nan))
    ops.copy(stored(x), out)
    np.testing.assert_array_equal(out, x.reshape(swapped))


def test_onto_itself(ops, rng):
    x = stored(rng.standard_normal(LARGE))
    kept = x.copy()
    ops.copy(x, x)
    np.testing.assert_array_equal(x, kept)


@pytest.mark.parametrize("shape", [SMALL, LARGE])
@pytest.mark.parametrize(
    "coeffs", [(1, 1), (1, -2), (0.5, 1, -1), (1,) * 5, (2,), (0, 1)]
)
def test_sums(ops, rng, shape, coeffs):
    xs = [rng.standard_normal(shape) for _ in coeffs]
    want = sum(c * x for c, x in zip(coeffs, xs, strict=True))
    for layout in LAYOUTS:
        out = layout(np.full(shape, np.nan))
        ops.add([layout(x) for x in xs], out, coeffs)
        assert_near(out, want)
    # Sources of other layouts than the sum.
    mixed = [LAYOUTS[k % 3](x) for k, x in enumerate(xs)]
    out = stored(np.full(shape, np.nan))
    ops.add(mixed, out, coeffs)
    assert_near(out, want)


@pytest.mark.parametrize("shape", [SMALL, LARGE])
@pytest.mark.parametrize("where", range(3))
@pytest.mark.parametrize("layout", LAYOUTS)
def test_sums_into_any_of_their_sources(ops, rng, shape, where, layout):
    coeffs = (1.0, -2.0, 0.5)
    xs = [rng.standard_normal(shape) for _ in coeffs]
    arrays = [layout(x) for x in xs]
    ops.add(arrays, arrays[where], coeffs)
    assert_near(arrays[where], sum(c * x for c, x in zip(coeffs, xs, strict=True)))
    for k, x in enumerate(xs):
        if k != where:
            assert_near(arrays[k], x)


def test_a_sum_with_one_array_twice(ops, rng):
    x, z = rng.standard_normal((2, *LARGE))
    both, other = stored(x), stored(z)
    ops.add([both, other, both], both, [1.0, 1.0, 2.0])
    assert_near(both, 3 * x + z)
    ops.add([other, other], out := stored(x), [1.0, 1.0])
    assert_near(out, 2 * z)


def test_the_order_of_scales_follows_the_arrays(ops, rng):
    """One kernel serves all sums of a size with the same scales."""
    x, z = rng.standard_normal((2, *LARGE))
    for first, second in ((1.0, 3.0), (3.0, 1.0), (1.0, 3.0)):
        out = stored(x * np.nan)
        ops.add([stored(x), stored(z)], out, [first, second])
        assert_near(out, first * x + second * z)
        arrays = [stored(x), stored(z)]
        ops.add(arrays, arrays[1], [first, second])
        assert_near(arrays[1], first * x + second * z)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("axis", [0, 1, 2, 3])
def test_large_parts(ops, rng, axis, layout):
    """As GoogLeNet joins and cuts them."""
    sizes = (16, 24, 9, 48)
    parts = []
    for size in sizes:
        shape = [4, 12, 11, 10]
        shape[axis] = size
        parts.append(rng.standard_normal(shape).astype(np.float32))
    whole = np.concatenate(parts, axis)
    out = layout(whole * np.nan)
    ops.concat([layout(part) for part in parts], axis, out)
    np.testing.assert_array_equal(out, whole)
    outs = [layout(part * np.nan) for part in parts]
    ops.split(out, axis, [None, *outs[1:]], sizes)
    for got, want in zip(outs[1:], parts[1:], strict=True):
        np.testing.assert_array_equal(got, want)
    assert np.isnan(outs[0]).all()


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [SMALL, LARGE, (2, 3, 40, 40), (2, 16, 4, 8, 9)])
def test_scale_and_shift_per_channel(ops, rng, shape, layout, in_place):
    x = rng.standard_normal(shape)
    scale, shift = rng.standard_normal((2, shape[1])).astype(np.float32)
    wide = (-1, *[1] * (len(shape) - 2))
    for given in (shift, None):
        bottom = layout(x)
        y = bottom if in_place else layout(x * np.nan)
        ops.scale_shift(bottom, 1, scale, given, y)
        want = x * scale.reshape(wide)
        assert_near(y, want if given is None else want + shift.reshape(wide), 2)


def test_constants_are_not_used_up(ops, rng):
    """Several shapes share the zeros and ones of one channel count."""
    scale, shift = rng.standard_normal((2, 16)).astype(np.float32)
    for shape in (SMALL, (1, 16, 9, 9), SMALL):
        x = rng.standard_normal(shape)
        y = stored(x * np.nan)
        ops.scale_shift(stored(x), 1, scale, None, y)
        assert_near(y, x * scale.reshape(-1, 1, 1))
        ops.scale_shift(stored(x), 1, np.ones(16, np.float32), shift, y)
        assert_near(y, x + shift.reshape(-1, 1, 1))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_the_first_bad_number_in_c_order(ops, rng, layout, bad):
    x = rng.standard_normal(LARGE)
    assert ops.first_bad(layout(x)) == -1
    x[1, 5, 3, 2] = bad
    x[1, 6, 0, 0] = bad
    assert ops.first_bad(layout(x)) == np.ravel_multi_index((1, 5, 3, 2), LARGE)


def test_infinities_that_cancel_are_found(ops):
    x = np.ones(9, np.float32)
    x[3], x[7] = np.inf, -np.inf
    assert ops.first_bad(x) == 3
    assert ops.first_bad(np.full(9, np.finfo(np.float32).max)) == -1
    assert ops.first_bad(np.ones((0, 3), np.float32)) == -1


@pytest.mark.parametrize("coeffs", [(1.0, 1.0), (1.0, -2.0, 0.5), (3.0, 1.0)])
@pytest.mark.parametrize("relu", [None, 0.0, 0.1])
@pytest.mark.parametrize("into", [None, 0, 1])
def test_sums_with_a_relu_in_the_same_pass(ops, coeffs, relu, into):
    rng = np.random.default_rng(2)
    srcs = [rng.standard_normal(5000).astype(np.float32) for _ in coeffs]
    want = sum(c * s for c, s in zip(coeffs, srcs, strict=True))
    if relu is not None:
        want = np.where(want < 0, want * relu, want)
    dst = np.empty(5000, np.float32) if into is None else srcs[into]
    ops.add(srcs, dst, coeffs, relu)
    np.testing.assert_allclose(dst, want, rtol=1e-5, atol=1e-6)
