from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.reference import ReferenceOps
from poseidon_caffe.errors import ShapeError
from tests.backend.conftest import caffe_close

SHAPES = [(2, 3, 4, 5), (3, 16, 4, 4), (6, 10), (7,), (2, 3, 2, 3, 2), (0, 3, 4, 5)]


def test_copy_between_layouts_and_shapes(kit, rng):
    x = rng.standard_normal((2, 16, 3, 5))
    src = kit.array(x)
    for shape in ((2, 16, 3, 5), (2, 240), (480,), (2, 4, 4, 15), (4, 8, 15)):
        dst = kit.empty(shape)
        kit.ops.copy(src, dst)
        kit.assert_close(dst, x.reshape(shape))
        back = kit.empty(x.shape)
        kit.ops.copy(dst, back)
        kit.assert_close(back, x)
    plain = kit.empty_param(x.shape)
    kit.ops.copy(src, plain)
    kit.assert_close(plain, x)
    kit.ops.copy(src, src)
    kit.assert_close(src, x)


def test_clear_touches_nothing_else(kit, rng):
    x = kit.array(rng.standard_normal((2, 16, 3, 5)))
    part = x[:, 3:7]
    whole = np.array(x)
    kit.ops.clear(part)
    whole[:, 3:7] = 0
    np.testing.assert_array_equal(x, whole)
    kit.ops.clear(x)
    assert not x.any()
    kit.ops.clear(kit.empty((0, 3)))


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (4, 5)])
def test_place(kit, rng, shape):
    x, dst = rng.standard_normal(shape), kit.empty([n + 3 for n in shape])
    part = tuple(slice(i % 3, i % 3 + n) for i, n in enumerate(shape))
    kit.ops.place(kit.array(x), part, dst)
    want = np.zeros(dst.shape)
    want[part] = kit.array(x)
    np.testing.assert_array_equal(dst, want)
    kit.ops.place(
        kit.array(x), tuple(slice(0, n) for n in shape), y := kit.empty(shape)
    )
    kit.assert_close(y, x)


@pytest.mark.parametrize("coeffs", [(1.0,), (1.0, 1.0), (1.0, -1.0), (0.5, 2.0, -3.0)])
@pytest.mark.parametrize("shape", SHAPES)
def test_add(kit, rng, shape, coeffs):
    xs = rng.standard_normal((len(coeffs), *shape))
    want = sum(c * x for c, x in zip(coeffs, xs, strict=True))
    for place in (None, *range(len(coeffs))):
        srcs = [kit.array(x) for x in xs]
        dst = kit.empty(shape) if place is None else srcs[place]
        kit.ops.add(srcs, dst, coeffs)
        kit.assert_close(dst, want, loose=4)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_multiply(kit, rng, shape, count):
    xs = rng.standard_normal((count, *shape))
    for place in (None, 0):
        srcs = [kit.array(x) for x in xs]
        dst = kit.empty(shape) if place is None else srcs[place]
        kit.ops.multiply(srcs, dst)
        kit.assert_close(dst, np.prod(xs, axis=0))


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", SHAPES)
def test_maximum(kit, rng, shape, count):
    xs, dy = rng.standard_normal((count, *shape)), rng.standard_normal(shape)
    for place in (None, *range(count)):
        srcs = [kit.array(x) for x in xs]
        dst = kit.empty(shape) if place is None else srcs[place]
        kit.ops.maximum(srcs, dst)
        kit.assert_close(dst, xs.max(axis=0))
    srcs = [kit.array(x) for x in xs]
    for i in range(count):
        given = kit.array(dy)
        for dx in (kit.empty(shape), given):
            kit.ops.maximum_backward(srcs, i, given, dx)
            kit.assert_close(dx, dy * (xs.argmax(axis=0) == i))


def test_ties_go_as_in_caffe(kit):
    """Its first comparison is a > b, the later ones c > top."""
    values = [1.0, 0.0, 2.0, 0.0], [1.0, 3.0, 0.0, 0.0], [1.0, 3.0, 2.0, 1.0]
    srcs = [kit.array([v]) for v in (*values, values[2])]
    dy, winners = kit.array(np.ones((1, 4))), []
    for i in range(4):
        kit.ops.maximum_backward(srcs, i, dy, dx := kit.empty((1, 4)))
        winners.append(np.array(dx)[0].tolist())
    assert winners == [[0, 0, 1, 0], [1, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]]


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_concat_and_split(kit, rng, axis):
    sizes = (16, 3, 8)
    shapes = [[2, 5, 4, 3] for _ in sizes]
    for shape, size in zip(shapes, sizes, strict=True):
        shape[axis] = size
    xs = [rng.standard_normal(shape) for shape in shapes]
    whole = np.concatenate(xs, axis)
    dst = kit.empty(whole.shape)
    kit.ops.concat([kit.array(x) for x in xs], axis, dst)
    kit.assert_close(dst, whole)
    parts = [kit.empty(x.shape) for x in xs]
    kit.ops.split(dst, axis, parts)
    for part, x in zip(parts, xs, strict=True):
        kit.assert_close(part, x)
    parts = [None, kit.empty(xs[1].shape), None]
    kit.ops.split(dst, axis, parts, sizes)
    kit.assert_close(parts[1], xs[1])
    parts = [kit.empty(xs[0].shape), None, kit.empty(xs[2].shape)]
    kit.ops.split(dst, axis, parts)
    kit.assert_close(parts[0], xs[0])
    kit.assert_close(parts[2], xs[2])


@pytest.mark.parametrize("axis", range(4))
def test_sum_of_copies(kit, rng, axis):
    x = rng.standard_normal((2, 3, 4, 5))
    copies = [rng.standard_normal(x.shape) for _ in range(3)]
    dst = kit.empty(x.shape)
    kit.ops.sum_copies(kit.array(np.concatenate(copies, axis)), axis, 3, dst)
    kit.assert_close(dst, copies[0] + copies[1] + copies[2])


def test_parts_in_place_are_left_alone(kit, rng):
    x = rng.standard_normal((2, 24, 3, 3))
    dst = kit.array(x)
    other = kit.array(x[:, :8] + 1)
    kit.ops.concat([other, dst[:, 8:]], 1, dst)
    kit.assert_close(dst[:, :8], x[:, :8] + 1)
    kit.assert_close(dst[:, 8:], x[:, 8:])
    kit.ops.split(dst, 1, [other, dst[:, 8:]])
    kit.assert_close(dst[:, 8:], x[:, 8:])


def test_split_refuses_lengths_that_do_not_add_up():
    x = np.ones((2, 7))
    with pytest.raises(ShapeError, match=r"axis 1 of shape \(2, 7\)"):
        ReferenceOps().split(x, 1, [None, np.ones((2, 3))], [3, 3])


@pytest.mark.parametrize(
    ("shape", "axis", "inner"),
    [
        ((2, 16, 3, 5), 1, (16,)),
        ((2, 16, 3, 5), 0, (2, 16)),
        ((2, 16, 3, 5), 2, (3,)),
        ((2, 16, 3, 5), 3, (5,)),
        ((2, 16, 3, 5), 0, (2, 16, 3, 5)),
        ((2, 16, 3, 5), 0, ()),
        ((6, 10), 1, (10,)),
        ((6, 10), 0, (6,)),
        ((0, 3, 4, 5), 1, (3,)),
    ],
)
def test_scale_shift_and_its_sums(kit, rng, shape, axis, inner):
    x, other = rng.standard_normal((2, *shape))
    scale, shift = rng.standard_normal((2, *inner))
    ones = (1,) * (len(shape) - axis - len(inner))
    wide = [p.reshape(*inner, *ones) for p in (scale, shift)]
    s, t = kit.param(scale), kit.param(shift)
    for bottom, y in ((kit.array(x), kit.empty(shape)), (z := kit.array(x), z)):
        kit.ops.scale_shift(bottom, axis, s, t, y)
        kit.assert_close(y, x * wide[0] + wide[1], loose=4)
    kit.ops.scale_shift(kit.array(x), axis, s, None, y := kit.empty(shape))
    kit.assert_close(y, x * wide[0])
    kit.ops.scale_shift(kit.array(x), axis, None, t, y)
    kit.assert_close(y, x + wide[1])

    kept = range(axis, axis + len(inner))
    outer = tuple(i for i in range(len(shape)) if i not in kept)
    out = kit.empty_param(inner)
    kit.ops.sum_outer(kit.array(x), axis, inner, out)
    kit.assert_close(out, x.sum(outer), loose=8)
    kit.ops.sum_outer(kit.array(x), axis, inner, out, kit.array(other))
    kit.assert_close(out, (x * other).sum(outer), loose=8)
    out[...] = scale
    kit.ops.sum_outer(kit.array(x), axis, inner, out, kit.array(other), accumulate=True)
    kit.assert_close(out, scale + (x * other).sum(outer), loose=8)

    dscale, dshift = kit.empty_param(inner), kit.empty_param(inner)
    top = kit.array(other)
    kit.ops.scale_shift_backward(kit.array(x), top, axis, s, top, dscale, dshift)
    kit.assert_close(top, other * wide[0])
    kit.assert_close(dscale, (x * other).sum(outer), loose=8)
    kit.assert_close(dshift, other.sum(outer), loose=8)


@pytest.mark.parametrize("shape", SHAPES)
def test_reductions(kit, rng, shape):
    x = rng.standard_normal(shape)
    assert kit.ops.asum(kit.array(x)) == pytest.approx(np.abs(x).sum(), rel=1e-6)
    assert kit.ops.sumsq(kit.array(x)) == pytest.approx((x**2).sum(), rel=1e-6)
    assert kit.ops.first_bad(kit.array(x)) == -1


def test_sums_are_accumulated_in_double(kit):
    """A float32 accumulator stops at 2^24 ones."""
    x = kit.array(np.ones((1, 1 << 20)))
    x[0, 0] = 2.0**14
    assert kit.ops.sumsq(x) == 2.0**28 + (1 << 20) - 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_first_bad_counts_in_c_order(kit, rng, bad):
    x = kit.array(rng.standard_normal((2, 16, 3, 5)))
    x[1, 3, 2, 4] = bad
    x[1, 4, 0, 0] = np.nan
    assert kit.ops.first_bad(x) == np.ravel_multi_index((1, 3, 2, 4), x.shape)


def test_large_values_are_finite(kit):
    """Their squares and sums are not, which must not be mistaken."""
    assert kit.ops.first_bad(kit.array(np.full((4, 100), 3e38))) == -1


@pytest.mark.parametrize("name", ["eltwise_sum", "eltwise_prod", "eltwise_max"])
def test_agrees_with_caffe(kit, golden, name):
    case = np.load(golden / "layers" / f"{name}.npz")
    xs = [kit.array(case[k]) for k in case if k.startswith("in/")]
    y = kit.empty(xs[0].shape)
    if name == "eltwise_sum":
        kit.ops.add(xs, y, [1.0] * len(xs))
    elif name == "eltwise_prod":
        kit.ops.multiply(xs, y)
    else:
        kit.ops.maximum(xs, y)
        for i, name_of in enumerate(("x", "x2", "x3")):
            dx = np.empty_like(y)
            kit.ops.maximum_backward(xs, i, kit.array(case["out_diff/y"]), dx)
            assert caffe_close(dx, case[f"in_diff/{name_of}"])
    assert caffe_close(y, case["out/y"])


@pytest.mark.parametrize("count", [8, 9, 16, 20])
def test_many_sources(kit, rng, count):
    """More than one pass of a GPU, onto an early, a late and no source."""
    xs, shape = rng.standard_normal((count, 2, 3, 4, 5)), (2, 3, 4, 5)
    coeffs = [1.0 + 0.1 * i for i in range(count)]
    total = sum(c * x for c, x in zip(coeffs, xs, strict=True))
    dy = rng.standard_normal(shape)
    for place in (None, 0, count - 1, 8 % count):
        for what in ("add", "multiply", "maximum"):
            srcs = [kit.array(x) for x in xs]
            dst = kit.empty(shape) if place is None else srcs[place]
            if what == "add":
                kit.ops.add(srcs, dst, coeffs, 0.1)
                kit.assert_close(dst, np.where(total > 0, total, 0.1 * total), loose=8)
            elif what == "multiply":
                kit.ops.multiply(srcs, dst)
                kit.assert_close(dst, np.prod(xs, axis=0), loose=8)
            else:
                kit.ops.maximum(srcs, dst)
                kit.assert_close(dst, xs.max(axis=0))
    srcs = [kit.array(x) for x in xs]
    for i in (0, 1, 2, count - 1):
        kit.ops.maximum_backward(srcs, i, kit.array(dy), dx := kit.empty(shape))
        kit.assert_close(dx, dy * (xs.argmax(axis=0) == i))


def test_later_ties_of_many_sources_go_to_the_earlier(kit):
    srcs = [kit.array([[1.0, 0.0, 1.0]]) for _ in range(12)]
    srcs[9][0, 1] = srcs[10][0, 1] = 3.0
    srcs[0][0, 2] = srcs[1][0, 2] = 0.0
    winners = []
    for i in range(12):
        dx = kit.empty((1, 3))
        kit.ops.maximum_backward(srcs, i, kit.array(np.ones((1, 3))), dx)
        winners += [(i, int(k)) for k in np.flatnonzero(dx)]
    assert winners == [(1, 0), (2, 2), (9, 1)]


@pytest.mark.parametrize(
    ("shape", "axis", "inner"),
    [
        ((5, 40, 7, 9), 1, (40,)),
        ((3, 40, 7, 9), 0, (3, 40)),
        ((3, 40, 7, 9), 2, (7, 9)),
        ((3, 40, 7, 9), 1, (40, 7)),
        ((3, 40, 7, 9), 3, (9,)),
        ((3, 40, 7, 9), 2, (7,)),
        ((3, 40, 7, 9), 1, (40, 7, 9)),
        ((2, 3, 100, 90), 1, (3,)),
        ((3000, 5), 1, (5,)),
        ((2, 9000), 0, (2,)),
        ((1, 9000), 0, ()),
        ((3, 1, 4, 5), 1, (1,)),
        ((3, 4, 2, 3, 2), 1, (4,)),
        ((2, 3, 2, 3, 2, 2), 1, (3, 2)),
    ],
)
def test_every_way_to_spread_a_parameter(kit, rng, shape, axis, inner):
    """Both kernels, several pieces an output, arrays that are not dense."""
    x, other = rng.standard_normal((2, *shape))
    scale, shift = rng.standard_normal((2, *inner))
    ones = (1,) * (len(shape) - axis - len(inner))
    wide = [p.reshape(*inner, *ones) for p in (scale, shift)]
    s, t = kit.param(scale), kit.param(shift)
    wider = (*shape[:-1], shape[-1] + 1)
    loose = kit.array(np.zeros(wider))[..., :-1]
    loose[...] = x
    for bottom in (kit.array(x), loose):
        kit.ops.scale_shift(bottom, axis, s, t, y := kit.empty(shape))
        kit.assert_close(y, x * wide[0] + wide[1], loose=4)
        outer = tuple(i for i in range(len(shape)) if not 0 <= i - axis < len(inner))
        dscale, dshift = kit.param(scale), kit.param(shift)
        kit.ops.scale_shift_backward(
            bottom, kit.array(other), axis, s, dx := kit.empty(shape), dscale, dshift,
            accumulate=True,
        )  # fmt: skip
        kit.assert_close(dx, other * wide[0])
        kit.assert_close(dscale, scale + (x * other).sum(outer), loose=16)
        kit.assert_close(dshift, shift + other.sum(outer), loose=16)
