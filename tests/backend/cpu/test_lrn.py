from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.geometry import LrnGeometry
from poseidon_caffe.backend.reference import ReferenceOps
from poseidon_caffe.errors import BackendError
from tests.backend.cpu.conftest import assert_near, inside, stored, unset

# x_shape, size, alpha, beta, k, across channels
CASES = {
    "alexnet": ((2, 96, 9, 9), 5, 1e-4, 0.75, 1.0, True),
    "googlenet": ((1, 64, 14, 14), 5, 1e-4, 0.75, 1.0, True),
    "strong": ((3, 32, 7, 6), 5, 2.0, 0.75, 2.0, True),
    "other power": ((2, 16, 5, 5), 3, 1.0, 0.6, 1.0, True),
    "few channels": ((2, 3, 8, 8), 5, 1.0, 0.75, 1.0, True),
    "20 channels": ((2, 20, 8, 8), 5, 1.0, 0.75, 1.0, True),
    "cifar within": ((2, 32, 8, 8), 3, 5e-5, 0.75, 1.0, False),
    "within, strong": ((3, 20, 9, 7), 5, 2.0, 0.75, 1.0, False),
    "within, other power": ((2, 16, 6, 5), 3, 1.0, 0.6, 1.0, False),
    "within, power one": ((2, 16, 6, 5), 3, 1.0, 1.0, 1.0, False),
    "within, one channel": ((2, 1, 8, 8), 3, 1.0, 0.75, 1.0, False),
    "within, wider than the image": ((2, 16, 3, 2), 7, 1.0, 0.75, 1.0, False),
    "within, in pieces": ((11, 32, 32, 32), 3, 0.5, 0.75, 1.0, False),
}


def values(g, rng):
    return 3 * rng.standard_normal(g.x_shape), rng.standard_normal(g.x_shape)


def expected(g, x, dy):
    kernel = ReferenceOps().lrn(g)
    y, dx = np.empty(g.x_shape), np.empty(g.x_shape)
    kernel.forward(x, y)
    kernel.backward(x, y, dy, dx)
    return y, dx


def computed(kernel, x, dy):
    y, dx = np.full_like(x, np.nan), np.full_like(x, np.nan)
    kernel.forward(x, y)
    kernel.backward(x, y, dy, dx)
    return y, dx


@pytest.mark.parametrize("name", CASES)
def test_shapes_of_published_nets(ops, rng, name):
    g = LrnGeometry(*CASES[name])
    x, dy = values(g, rng)
    want = expected(g, x, dy)
    kernel = ops.lrn(g)
    for last in (True, False, True):
        got = computed(kernel, *(stored(a, channels_last=last) for a in (x, dy)))
        for a, b in zip(got, want, strict=True):
            assert_near(a, b, 2)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_the_gradient_may_be_written_over_what_it_is_made_from(ops, rng, name, last):
    """Neighbouring channels read it still when their neighbour has been written."""
    g = LrnGeometry(*CASES[name])
    x, dy = values(g, rng)
    want = expected(g, x, dy)
    x, y, both = (stored(a, channels_last=last) for a in (x, x, dy))
    kernel = ops.lrn(g)
    kernel.forward(x, y)
    kernel.backward(x, y, both, both)
    assert_near(both, want[1], 2)


@pytest.mark.parametrize("name", ["alexnet", "strong", "cifar within"])
def test_slices_of_wider_arrays(ops, rng, name):
    g = LrnGeometry(*CASES[name])
    x, dy = values(g, rng)
    for a, b in zip(
        computed(ops.lrn(g), inside(x), inside(dy)), expected(g, x, dy), strict=True
    ):
        assert_near(a, b, 2)


def test_kernels_keep_their_workspaces_apart(ops, rng):
    g = LrnGeometry(*CASES["strong"])
    runs = [(ops.lrn(g), *values(g, rng)) for _ in range(2)]
    tops = []
    for kernel, x, _ in runs:
        kernel.forward(stored(x), y := unset(g.x_shape))
        tops.append(y)
    for (kernel, x, dy), y in zip(runs, tops, strict=True):
        kernel.backward(stored(x), y, stored(dy), dx := unset(g.x_shape))
        assert_near(dx, expected(g, x, dy)[1], 2)


@pytest.mark.parametrize("name", ["strong", "cifar within"])
def test_gradients_may_lie_otherwise_than_values(ops, rng, name):
    g = LrnGeometry(*CASES[name])
    x, dy = values(g, rng)
    want = expected(g, x, dy)

    def plain(values):
        return stored(values, channels_last=False)

    kernel = ops.lrn(g)
    for bottom in (stored, plain, inside):
        for top in (stored, plain, inside):
            y = top(np.full(g.x_shape, np.nan))
            kernel.forward(bottom(x), y)
            assert_near(y, want[0], 2)
            for diff in (stored, plain, inside):
                dx = top(np.full(g.x_shape, np.nan))
                kernel.backward(bottom(x), y, diff(dy), dx)
                assert_near(dx, want[1], 2)


def test_backward_alone_is_refused(ops):
    g = LrnGeometry(*CASES["strong"])
    x = unset(g.x_shape)
    with pytest.raises(BackendError, match="forward"):
        ops.lrn(g).backward(x, x, x, x)
