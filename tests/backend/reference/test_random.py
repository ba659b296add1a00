from __future__ import annotations

import math

import numpy as np
import pytest

from poseidon_caffe.backend.reference import ReferenceOps

DRAWS = {
    "bernoulli": lambda ops, rng, out: ops.bernoulli(rng, 0.3, out),
    "uniform": lambda ops, rng, out: ops.uniform(rng, -1.0, 3.0, out),
    "normal": lambda ops, rng, out: ops.normal(rng, 2.0, 0.5, out),
}
SHAPES = [(3, 4), (), (0, 3), (200_000,), (40, 5000), (2, 3, 200, 200), (1, 90_000)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", DRAWS)
def test_all_backends_and_layouts_draw_the_same(kit, name, shape):
    want = np.zeros(shape, np.uint8 if name == "bernoulli" else np.float32)
    # A GPU draws its own numbers; those of a plain array stand for all layouts.
    plain = kit.ops if kit.ops.name == "gpu" else ReferenceOps()
    DRAWS[name](plain, plain.generator((3,)), want)
    out = kit.array(np.zeros(shape))
    if name == "bernoulli":
        out = out.astype(np.uint8, order="K")
    DRAWS[name](kit.ops, kit.ops.generator((3,)), out)
    np.testing.assert_array_equal(out, want)


def test_pieces_of_a_large_array_are_independent(kit):
    out = kit.param(np.zeros((8, 100_000)))
    kit.ops.normal(kit.ops.generator((3,)), 2.0, 0.5, out)
    assert out.mean() == pytest.approx(2, abs=0.005)
    assert out.std() == pytest.approx(0.5, abs=0.005)
    assert abs(np.corrcoef(out) - np.eye(8)).max() < 0.02
    kit.ops.uniform(kit.ops.generator((3,)), -1.0, 3.0, out)
    assert -1 <= out.min() < -0.99
    assert 2.99 < out.max() <= 3
    assert out.mean() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("shape", [(400_000,), (3, 33_333)])
def test_normal_numbers_are_normal(kit, shape):
    """Shares below some bounds, within five standard deviations of such a share."""
    out = np.zeros(shape, np.float32)
    kit.ops.normal(kit.ops.generator((5,)), 0.0, 1.0, out)
    assert np.isfinite(out).all()
    for bound in (-3.0, -2.0, -1.0, -0.1, 0.0, 0.5, 1.5, 2.5, 3.5):
        share = (1 + math.erf(bound / math.sqrt(2))) / 2
        error = math.sqrt(share * (1 - share) / out.size)
        assert (out < bound).mean() == pytest.approx(share, abs=5 * error)
    flat = out.reshape(-1)
    assert abs(np.corrcoef(flat[:-1], flat[1:])[0, 1]) < 0.02
    # Both numbers of a pair come from the same two.
    half = min(flat.size, 1 << 15) // 2
    for power in (1, 2):
        first, second = flat[:half] ** power, flat[half : 2 * half] ** power
        assert abs(np.corrcoef(first, second)[0, 1]) < 0.04


@pytest.mark.parametrize("probability", [0.0, 0.25, 0.5, 0.9, 1.0])
def test_share_of_ones(kit, probability):
    out = kit.array(np.full((4, 16, 30, 30), 9)).astype(np.uint8)
    kit.ops.bernoulli(kit.ops.generator((3,)), probability, out)
    assert set(np.unique(out)) <= {0, 1}
    assert out.mean() == pytest.approx(probability, abs=0.01)


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize(
    "shape", [(2, 16, 5, 3), (3, 7, 2, 1), (9, 11), (7,), (1, 3, 2, 3, 2), (0, 3), ()]
)
def test_dropout_draws_and_applies_at_once(kit, rng, shape, mixed):
    """The very numbers of the two steps, draw after draw, also onto the input."""
    x = rng.standard_normal(shape)
    one, two = kit.ops.generator((3,)), kit.ops.generator((3,))
    for in_place in (False, True, False):
        want, want_mask = kit.empty(shape), kit.array(np.zeros(shape)).astype(np.uint8)
        kit.ops.bernoulli(one, 0.4, want_mask)
        kit.ops.dropout(kit.array(x), want_mask, 2.5, want)
        bottom = kit.array(x)
        top = bottom if in_place else kit.empty(shape)
        mask = np.full(shape, 9, np.uint8) if mixed else np.full_like(want_mask, 9)
        kit.ops.draw_dropout(two, 0.4, 2.5, bottom, mask, top)
        np.testing.assert_array_equal(mask, want_mask)
        np.testing.assert_array_equal(top, want)
    kit.ops.bernoulli(one, 0.4, want_mask)
    kit.ops.bernoulli(two, 0.4, mask)
    np.testing.assert_array_equal(mask, want_mask)


def test_same_generator_same_mask_in_every_layout(kit):
    shape = (2, 16, 5, 3)
    out = kit.array(np.zeros(shape)).astype(np.uint8)
    plain = np.zeros(shape, np.uint8)
    kit.ops.bernoulli(kit.ops.generator((3,)), 0.5, out)
    kit.ops.bernoulli(kit.ops.generator((3,)), 0.5, plain)
    np.testing.assert_array_equal(out, plain)
    generator = kit.ops.generator((3,))
    kit.ops.bernoulli(generator, 0.5, out)
    kit.ops.bernoulli(generator, 0.5, out)
    assert (out != plain).any()
    kit.ops.bernoulli(generator, 0.5, np.zeros((0, 3), np.uint8))


def test_generators_differ_by_any_of_their_words(kit):
    drawn = []
    for words in ((1, 2, 3), (1, 2, 4), (0, 2, 3), (1 << 63, 2, 3), (1, 2, 3)):
        out = kit.param(np.zeros((3, 7)))
        kit.ops.uniform(kit.ops.generator(words), 0.0, 1.0, out)
        drawn.append(tuple(out.reshape(-1)))
    assert len(set(drawn)) == 4
    assert drawn[0] == drawn[4]
