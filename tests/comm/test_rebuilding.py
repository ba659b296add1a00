"""Gradients made from factors, in the model's own memory."""

from __future__ import annotations

import numpy as np

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.backend.memory import HostMemory
from poseidon_caffe.comm.rebuilding import HostRebuilder, rebuilder_of
from tests.comm.support import ROWS, Tiny


class Counting(HostMemory):
    """Keeps the sizes of what was cleared."""

    def __init__(self):
        super().__init__()
        self.cleared = []

    def clear(self, array):
        self.cleared.append(array.size)
        super().clear(array)


def test_gradients_are_overwritten_and_not_cleared_before():
    memory, tiny = Counting(), Tiny(widths=(4, 3))
    tiny.blobs = [Blob(b.shape, dtype=b.dtype, memory=memory) for b in tiny.blobs]
    rebuilder = rebuilder_of(tiny.model())
    assert isinstance(rebuilder, HostRebuilder)
    draw = np.random.default_rng(0)
    for _ in range(2):
        for blob in tiny.blobs:
            blob.clear_diff()
        dy, x = draw.normal(size=(ROWS, 3)), draw.normal(size=(ROWS, 4))
        rebuilder.rebuild(0, 1, dy, x)
        np.testing.assert_allclose(tiny.blobs[0].diff, dy.T @ x)
        np.testing.assert_allclose(tiny.blobs[1].diff, dy.sum(axis=0))
        squares = rebuilder.sum_of_squares([0, 1])
        np.testing.assert_allclose(
            squares, sum(float((blob.diff**2).sum()) for blob in tiny.blobs)
        )
    assert not memory.cleared
