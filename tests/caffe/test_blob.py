from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend import blob as core
from poseidon_caffe.caffe.blob import Blob, BlobVec
from poseidon_caffe.errors import ShapeError


def test_views_write_through():
    below = core.Blob((2, 3, 4, 5), channels_last=True)
    blob = Blob(below)
    blob.data[...] = np.arange(120).reshape(2, 3, 4, 5)
    blob.diff.flat = 1
    assert below.data[1, 2, 3, 4] == 119
    assert blob.data.flat[119] == 119
    assert below.diff.sum() == 120
    held = blob.data
    below.data[0, 0, 0, 0] = 7
    assert held[0, 0, 0, 0] == 7
    assert held.flags.writeable
    assert held.dtype == np.float32


def test_a_view_tells_the_kernels_that_values_may_change():
    below = core.Blob((2,))
    assert below.key is not None
    _ = Blob(below).data
    assert below.key is None


def test_shape_and_the_four_old_names():
    blob = Blob(core.Blob((2, 3, 4, 5)))
    assert (blob.num, blob.channels, blob.height, blob.width) == (2, 3, 4, 5)
    assert (blob.shape, blob.count) == ((2, 3, 4, 5), 120)
    blob.reshape(6, 2)
    assert (blob.num, blob.channels, blob.height, blob.width) == (6, 2, 1, 1)
    assert blob.data.shape == (6, 2)
    blob.reshape()
    assert (blob.shape, blob.num, blob.count) == ((), 1, 1)
    blob.reshape(1, 2, 3, 4, 5)
    with pytest.raises(ShapeError, match="at most 4 axes"):
        _ = blob.num
    with pytest.raises(ShapeError, match="negative"):
        blob.reshape(2, -1)
    assert repr(blob) == "<Blob 1x2x3x4x5>"


def test_shrinking_keeps_the_values():
    blob = Blob(core.Blob((4, 3)))
    blob.data[...] = np.arange(12).reshape(4, 3)
    blob.reshape(2, 3)
    np.testing.assert_array_equal(blob.data, [[0, 1, 2], [3, 4, 5]])


def test_a_shape_in_one_tuple_is_refused():
    blob = Blob(core.Blob((2, 3)))
    with pytest.raises(TypeError, match=r"reshape\(\(1, 3\)\): give one number"):
        blob.reshape((1, 3))
    assert tuple(blob.shape) == (2, 3)


@pytest.mark.parametrize("name", ["data", "diff"])
def test_assigning_says_what_to_write_instead(name):
    blob = Blob(core.Blob((2,)))
    with pytest.raises(AttributeError, match=rf"blob\.{name}\[\.\.\.\] = value"):
        setattr(blob, name, np.zeros(2))


def test_blobvec_is_a_sequence():
    below = [core.Blob((2, 2)), core.Blob((2,))]
    vector = BlobVec(below)
    assert len(vector) == 2
    assert [blob.shape for blob in vector] == [(2, 2), (2,)]
    assert vector[-1].shape == (2,)
    assert [blob.shape for blob in vector[:1]] == [(2, 2)]
    with pytest.raises(IndexError):
        _ = vector[2]
    below[1] = core.Blob((5,))  # shared in from another net
    assert vector[1].shape == (5,)
