from __future__ import annotations

import threading

import numpy as np
import pytest

from poseidon_caffe.backend.cpu.blocks import BLOCK_COUNT, in_blocks
from poseidon_caffe.backend.threads import ThreadPool
from tests.backend.cpu.conftest import inside, stored


@pytest.fixture
def pool():
    made = ThreadPool(3)
    yield made
    made.close()


def add(a, b, out, factor):
    np.add(a, factor * b, out=out)


@pytest.mark.parametrize("size", [0, 1, BLOCK_COUNT, BLOCK_COUNT + 1, 300_001])
def test_every_element_once(pool, rng, size):
    a, b = rng.standard_normal((2, size))
    out = np.full(size, np.nan)
    in_blocks(pool, add, (a, b, out), 2.0)
    np.testing.assert_array_equal(out, a + 2 * b)


def test_blocks_are_small_and_spread_over_threads(pool):
    seen = []

    def note(part):
        seen.append((part.size, threading.get_ident()))

    in_blocks(pool, note, (np.zeros(1 << 20),))
    assert max(size for size, _ in seen) == BLOCK_COUNT
    assert sum(size for size, _ in seen) == 1 << 20


def test_layouts_that_differ_run_whole(pool, rng):
    x = rng.standard_normal((4, 32, 30, 30))
    shapes = []

    def note(a, b):
        shapes.append(a.shape)
        b[...] = a

    out = stored(np.zeros(x.shape), channels_last=False)
    in_blocks(pool, note, (stored(x), out))
    in_blocks(pool, note, (inside(x), out))
    assert shapes == [x.shape, x.shape]
    np.testing.assert_array_equal(out, stored(x))


def test_masks_go_along(pool, rng):
    """A mask of bytes lies as float32 does, though its strides are a quarter."""
    x = stored(rng.standard_normal((4, 32, 30, 30)))
    mask = np.zeros_like(x, np.uint8)
    in_blocks(pool, lambda a, m: np.greater(a, 0, out=m), (x, mask))
    np.testing.assert_array_equal(mask, x > 0)


def test_a_failure_reaches_the_caller(pool):
    def fail(part):
        raise ValueError("in a block")

    with pytest.raises(ValueError, match="in a block"):
        in_blocks(pool, fail, (np.zeros(1 << 20),))
