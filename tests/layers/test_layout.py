"""Plain views, aliases, gradients and generator states that layers share."""

from __future__ import annotations

import json

import numpy as np
import pytest

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.backend.reference import ReferenceOps
from poseidon_caffe.layers.generators import generator_state, restore_generator
from poseidon_caffe.layers.gradients import param_gradients
from poseidon_caffe.layers.layout import Alias, PlainView, like, stored_plain

SHAPE = (2, 3, 4, 5)


@pytest.mark.parametrize("channels_last", [False, True])
def test_plain_view_reads_and_writes_in_c_order(channels_last):
    view = PlainView(ReferenceOps(), np.float32)
    blob = Blob(SHAPE, channels_last=channels_last)
    blob.data[...] = np.arange(120).reshape(SHAPE)
    seen = view.read(blob.data, (2, 60))
    assert seen.flags.c_contiguous
    np.testing.assert_array_equal(seen.reshape(-1), np.arange(120))
    assert np.shares_memory(seen, blob.data) != channels_last
    target = view.target(blob.data, (6, 20))
    target[...] = -np.arange(120).reshape(6, 20)
    view.write_back(target, blob.data)
    np.testing.assert_array_equal(blob.data, -np.arange(120).reshape(SHAPE))


@pytest.mark.parametrize(
    ("shape", "plain"), [(SHAPE, False), ((2, 1, 4, 5), True), ((2, 3, 1, 1), True)]
)
def test_stored_plain(shape, plain):
    blob = Blob(shape, channels_last=True)
    assert stored_plain(blob) == plain == blob.data.flags.c_contiguous
    assert stored_plain(Blob(shape))
    assert like(blob, np.uint8).data.strides == tuple(s // 4 for s in blob.data.strides)


def test_alias_copies_between_layouts():
    source, target = Blob(SHAPE, channels_last=True), Blob(SHAPE)
    alias = Alias(ReferenceOps())
    assert not alias.bind(source, target)
    source.data[...] = np.arange(120).reshape(SHAPE)
    alias.forward(source, target)
    np.testing.assert_array_equal(target.data, source.data)
    target.diff[...] = 4
    alias.backward(target, source)
    assert (source.diff == 4).all()


def test_param_gradients_agree_on_adding():
    cleared, kept, unwanted = Blob((2,)), Blob((2,)), Blob((2,))
    for blob in (cleared, kept, unwanted):
        blob.diff[...] = 7
    cleared.clear_diff()
    arrays, accumulate = param_gradients([cleared, kept, unwanted], [True, True, False])
    assert accumulate
    assert arrays[0].tolist() == [0, 0]
    assert arrays[1].tolist() == [7, 7]
    assert arrays[2] is None
    cleared.clear_diff()
    assert not param_gradients([cleared], [True])[1]


def test_generators_resume_exactly():
    rng = np.random.Generator(np.random.SFC64(4))
    rng.random(3, np.float32)
    state = json.loads(json.dumps(generator_state(rng)))
    expected = rng.random(5, np.float32)
    other = np.random.Generator(np.random.SFC64(9))
    restore_generator(other, state)
    np.testing.assert_array_equal(other.random(5, np.float32), expected)
