"""BatchReindex: choosing, repeating, refusing."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.errors import LayerError, ShapeError
from tests.layers.harness import build


def reindex(index, shape=(4, 2), **more):
    run = build("BatchReindex", "", [shape, (len(index),)], **more)
    run.bottom[0].data[...] = np.arange(np.prod(shape)).reshape(shape)
    run.bottom[1].data[...] = index
    return run


@pytest.mark.parametrize("shape", [(4, 2), (4,), (4, 3, 5, 2)])
def test_items_are_chosen_and_their_gradients_added(shape, cpu):
    index = [3, 0, 3, 3, 1.5]
    for ops in (None, cpu):
        run = reindex(index, shape, ops=ops)
        y = run.forward()[0]
        np.testing.assert_array_equal(y, run.bottom[0].data[[3, 0, 3, 3, 1]])
        dy = np.random.default_rng(1).standard_normal(y.shape)
        run.set_top_diffs([dy])
        run.bottom[0].diff[...] = 7
        dx = run.backward([True, False])[0]
        want = [dy[1], dy[4], 0 * dy[0], dy[0] + dy[2] + dy[3]]
        np.testing.assert_allclose(dx, want, atol=1e-6)


def test_nothing_chosen():
    run = reindex([])
    assert run.forward()[0].shape == (0, 2)
    assert (run.backward([True, False])[0] == 0).all()


@pytest.mark.parametrize("bad", [-0.5, -1, 4, np.nan])
def test_numbers_of_no_item_are_errors(bad):
    with pytest.raises(LayerError, match=r"position 1 is none of the 4 items"):
        reindex([0, bad]).forward()


def test_numbers_need_one_axis():
    with pytest.raises(ShapeError, match="one axis"):
        build("BatchReindex", "", [(4, 2), (3, 1)])


def test_numbers_get_no_gradient():
    run = reindex([0, 1])
    assert [run.layer.allow_force_backward(i) for i in range(2)] == [True, False]
    run.forward()
    with pytest.raises(LayerError, match="item numbers"):
        run.backward([True, True])
