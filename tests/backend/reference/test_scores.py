"""How often labels are among the best scores, on every backend."""

from __future__ import annotations

import numpy as np
import pytest

from tests.backend.conftest import summed


def definition(scores, label, axis, top_k, ignored):
    """(hits, labels counted, share of hits of each class)."""
    flat = np.moveaxis(scores, axis, -1).reshape(-1, scores.shape[axis])
    hits, seen = np.zeros(flat.shape[1]), np.zeros(flat.shape[1])
    for row, wanted in zip(flat, label.reshape(-1).astype(int), strict=True):
        if wanted != ignored:
            seen[wanted] += 1
            hits[wanted] += (row >= row[wanted]).sum() <= top_k
    return hits.sum(), seen.sum(), hits / np.maximum(seen, 1)


# Forms of the GPU's kernel: a warp, a block, and a tile of places.
@pytest.mark.parametrize("shape", [(70, 10), (3, 700), (3, 7, 2, 5), (2, 3, 4, 5, 2)])
@pytest.mark.parametrize("ignored", [None, 2])
@pytest.mark.parametrize("top_k", [1, 3])
def test_hits(kit, rng, shape, top_k, ignored):
    # Few values: many classes score the same.
    scores = rng.integers(0, 12, shape).astype(float)
    label = rng.integers(0, shape[1], (shape[0], *shape[2:])).astype(float)
    hits, counted, shares = definition(scores, label, 1, top_k, ignored)
    by_class = kit.empty_param(shape[1])
    args = (kit.array(scores), kit.array(label), 1, top_k, ignored)
    found = summed(kit.ops.count_hits, *args[:5], by_class=None)
    assert found == (hits, counted)
    sums = np.full(2, np.nan)
    kit.ops.count_hits(*args, sums, by_class)
    assert tuple(sums) == (hits, counted)
    kit.assert_close(by_class, shares)


def test_classes_on_another_axis(kit, rng):
    scores = rng.standard_normal((2, 3, 5))
    label = rng.integers(0, 5, (2, 3)).astype(float)
    hits, counted, _ = definition(scores, label, 2, 2, None)
    args = (kit.array(scores), kit.array(label), 2, 2, None)
    assert summed(kit.ops.count_hits, *args) == (hits, counted)


def test_nothing_counts(kit, rng):
    scores = kit.array(rng.standard_normal((4, 3)))
    shares = kit.empty_param(3)
    sums = np.full(2, np.nan)
    kit.ops.count_hits(scores, kit.param(np.ones(4)), 1, 1, 1, sums, shares)
    assert sums.tolist() == [0, 0]
    assert shares.tolist() == [0, 0, 0]
