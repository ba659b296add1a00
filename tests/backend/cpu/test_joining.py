from __future__ import annotations

import numpy as np
import pytest

from tests.backend.cpu.conftest import assert_near, inside, stored, unset


def plain(values):
    return stored(values, channels_last=False)


LAYOUTS = [stored, plain, inside]
# Other lengths, axis, lengths along it: rows short, usual and long; small arrays.
PARTS = {
    "channels": ((4, 0, 14, 14), 1, (64, 32, 128)),
    "thin": ((8, 0, 20, 20), 1, (3, 1, 4)),
    "images": ((0, 16, 12, 12), 0, (1, 7, 3)),
    "rows": ((3, 32, 0, 10), 2, (4, 20, 1)),
    "columns": ((3, 32, 10, 0), 3, (4, 20, 1)),
    "pixels": ((16, 0, 1, 1), 1, (1024, 512)),
    "matrix": ((64, 0), 1, (200, 100)),
    "small": ((2, 0, 3, 3), 1, (16, 16)),
    "many": ((8, 0, 8, 8), 1, (16,) * 20),
    "an empty one": ((8, 0, 8, 8), 1, (64, 0, 16)),
}


def made(name, rng):
    shape, axis, sizes = PARTS[name]
    shapes = [(*shape[:axis], size, *shape[axis + 1 :]) for size in sizes]
    return axis, [rng.standard_normal(s).astype(np.float32) for s in shapes]


def layouts_of(x):
    return LAYOUTS if x.ndim > 2 and x.size else [np.copy]


@pytest.mark.parametrize("name", PARTS)
def test_joins_whatever_the_layouts(ops, rng, name):
    axis, parts = made(name, rng)
    want = np.concatenate(parts, axis)
    for target in layouts_of(want):
        for source in layouts_of(want):
            out = target(want * np.nan)
            sources = [source(x) if x.size else x for x in parts]
            ops.concat(sources, axis, out)
            np.testing.assert_array_equal(out, want)


def test_joins_parts_of_different_layouts(ops, rng):
    axis, parts = made("channels", rng)
    out = unset((4, 224, 14, 14))
    ops.concat([stored(parts[0]), plain(parts[1]), inside(parts[2])], axis, out)
    np.testing.assert_array_equal(out, np.concatenate(parts, axis))


def test_parts_in_place_stay_and_the_rest_is_joined(ops, rng):
    axis, parts = made("channels", rng)
    out = unset((4, 224, 14, 14))
    out[:, 64:96] = parts[1]
    ops.concat([stored(parts[0]), out[:, 64:96], stored(parts[2])], axis, out)
    np.testing.assert_array_equal(out, np.concatenate(parts, axis))


def test_joins_other_types_of_numbers(ops, rng):
    parts = [rng.standard_normal((40, n, 20)) for n in (32, 16)]
    out = np.empty((40, 48, 20))
    ops.concat(parts, 1, out)
    np.testing.assert_array_equal(out, np.concatenate(parts, 1))


# Shape of the sum, axis, copies.
COPIES = [
    ((8, 32, 14, 14), 1, 4),
    ((8, 32, 14, 14), 1, 1),
    ((8, 32, 14, 14), 0, 3),
    ((8, 32, 14, 14), 2, 3),
    ((8, 32, 14, 14), 3, 3),
    ((8, 64, 1, 1), 2, 49),
    ((8, 1, 30, 30), 1, 7),
    ((1, 3, 100, 100), 3, 2),
    ((64, 300), 1, 5),
    ((20000,), 0, 3),
    ((5000, 1), 1, 9),
    ((2, 3, 4, 5), 1, 3),
]


@pytest.mark.parametrize("case", COPIES, ids=str)
def test_sums_of_copies(ops, rng, case):
    shape, axis, copies = case
    wide = (*shape[:axis], copies * shape[axis], *shape[axis + 1 :])
    x = rng.standard_normal(wide).astype(np.float32)
    want = np.sum(np.split(x.astype(np.float64), copies, axis), axis=0)
    layouts = LAYOUTS if len(shape) > 2 else [np.copy]
    for target in layouts:
        for source in layouts:
            out = target(np.full(shape, np.nan, np.float32))
            ops.sum_copies(source(x), axis, copies, out)
            assert_near(out, want)
