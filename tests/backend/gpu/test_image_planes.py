"""Arrays (N, C, *spatial) by three steps, and copies of those that have more."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.gpu.image_planes import ImagePlanes, joined_step
from tests.backend.gpu.storage import here, there
from tests.devices import gpu_ops


def numbers(*shape):
    return np.arange(np.prod(shape, dtype=int), dtype=np.float64).reshape(shape)


@pytest.mark.parametrize(
    ("shape", "last", "steps"),
    [
        ((2, 3, 4, 5), False, (60, 20, 1)),
        ((2, 3, 4, 5), True, (60, 1, 3)),
        ((2, 3, 2, 2, 5), True, (60, 1, 3)),
        ((2, 3), False, (3, 1, 3)),
        ((2, 1, 4, 5), False, (20, 20, 1)),
        ((1, 3, 4, 5), False, (20, 20, 1)),
    ],
)
def test_steps(shape, last, steps):
    planes = ImagePlanes.of(there(numbers(*shape), channels_last=last))
    assert planes is not None
    assert planes.steps == steps
    assert (planes.images, planes.channels) == shape[:2]
    assert planes.places == np.prod(shape[2:], dtype=int)


def test_which_neighbours():
    plain = ImagePlanes.of(there(numbers(2, 3, 4, 5)))
    last = ImagePlanes.of(there(numbers(2, 3, 4, 5), channels_last=True))
    assert (plain.channels_last, plain.joined) == (False, False)
    assert (last.channels_last, last.joined) == (True, True)


def test_some_of_the_images():
    whole = there(numbers(4, 2, 3, 3))
    planes = ImagePlanes.of(whole)
    assert planes.part(0, 4) is planes
    part = planes.part(1, 2)
    assert (part.images, part.steps) == (2, planes.steps)
    assert np.array_equal(here(part.array), numbers(4, 2, 3, 3)[1:3])
    assert planes.part(2, 1).joined
    assert np.array_equal(here(planes.at(1, 1)), numbers(4, 2, 3, 3)[1:, 1:])


def test_gaps_between_rows_are_no_planes():
    whole = there(numbers(2, 3, 4, 6))
    assert ImagePlanes.of(whole[:, 1:]) is not None
    assert ImagePlanes.of(whole[..., :4]) is None


def test_what_has_gaps_is_copied_to_read():
    whole, values = there(numbers(2, 3, 4, 6)), numbers(2, 3, 4, 6)
    planes = gpu_ops().image_planes("test", whole[..., :4])
    assert planes.steps == (48, 16, 1)
    assert np.array_equal(here(planes.array), values[..., :4])
    assert gpu_ops().image_planes("test", whole).array is whole


def test_what_has_gaps_is_copied_once_written():
    whole, values = there(numbers(2, 3, 4, 6)), numbers(2, 3, 4, 6)
    new = -1 - numbers(2, 3, 4, 4)
    with gpu_ops().written_image_planes("test", whole[..., :4]) as planes:
        gpu_ops().copy(there(new), planes.array)
    values[..., :4] = new
    assert np.array_equal(here(whole), values)


@pytest.mark.parametrize("last", [False, True])
def test_image_follows_image(last):
    whole = there(numbers(3, 2, 2, 4), channels_last=last)
    joined = gpu_ops().joined_image_planes("test", ImagePlanes.of(whole))
    assert joined.joined
    want = numbers(3, 2, 8)
    assert np.array_equal(here(joined.array).reshape(want.shape), want)


def test_axes_seen_as_one():
    assert joined_step((4, 5), (5, 1)) == 1
    assert joined_step((4, 1, 5), (10, 99, 2)) == 2
    assert joined_step((4, 5), (6, 1)) is None
    assert joined_step((1, 1), (7, 7)) == 0
    assert joined_step((), ()) == 0
