"""Power and the other elementwise functions: chosen values, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.errors import LayerError
from tests.layers.harness import build


def value(kind, text, x):
    run = build(kind, text, [(1,)])
    run.bottom[0].data[...] = x
    return run.forward()[0].item()


@pytest.mark.parametrize(
    ("kind", "text", "x", "y"),
    [
        ("Power", "power_param { power: 2 scale: 3 shift: 1 }", 2, 49),
        ("Power", "power_param { power: 0 }", 5, 1),
        ("Power", "power_param { power: 2 scale: 0 shift: 3 }", 5, 9),
        ("Exp", "exp_param { base: 2 scale: 3 shift: 1 }", 1, 16),
        ("Exp", "", 1, np.e),
        ("Log", "log_param { base: 10 shift: 99 }", 1, 2),
        ("BNLL", "", 200, 200),
        ("BNLL", "", -200, 0),
        ("ELU", "elu_param { alpha: 2 }", -1, 2 * (np.exp(-1) - 1)),
        ("AbsVal", "", -3, 3),
        ("Threshold", "threshold_param { threshold: 2 }", 2, 0),
        ("Threshold", "threshold_param { threshold: 2 }", 2.1, 1),
        ("Clip", "clip_param { min: -1 max: 1 }", 9, 1),
        ("Swish", "swish_param { beta: 2 }", 1, 1 / (1 + np.exp(-2))),
        ("Sigmoid", "", -1000, 0),
        ("Sigmoid", "", 0, 0.5),
        ("TanH", "", 100, 1),
    ],
)
def test_values(kind, text, x, y):
    np.testing.assert_allclose(value(kind, text, x), y, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("Exp", "exp_param { base: 0 }"),
        ("Log", "log_param { base: -2 }"),
        ("Log", "log_param { base: 1 }"),
    ],
)
def test_bad_bases_are_refused(kind, text):
    with pytest.raises(LayerError, match="base"):
        build(kind, text, [(1,)])


def test_absolute_values_are_not_in_place():
    with pytest.raises(LayerError, match="in place"):
        build("AbsVal", "", [(1,)], in_place=True)


@pytest.mark.parametrize("tiles", [0, -1])
def test_tiles_are_positive(tiles):
    with pytest.raises(LayerError, match="tiles"):
        build("Tile", f"tile_param {{ tiles: {tiles} }}", [(2, 3)])
