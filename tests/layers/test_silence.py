"""Silence gives zero gradients."""

from __future__ import annotations

from tests.layers.harness import build


def test_asked_gradients_are_zero():
    run = build("Silence", "", [(2, 3), (4,)])
    for blob in run.bottom:
        blob.diff[...] = 5
    assert run.forward() == []
    first, second = run.backward([True, False])
    assert (first == 0).all()
    assert (second == 5).all()
