"""Groups of one mean in memory, and how blocks share them."""

from __future__ import annotations

import pytest

from poseidon_caffe.backend.gpu.fields import Field
from poseidon_caffe.backend.gpu.planes import Planes

PLAIN = Planes([], [], outer=6, classes=5, inner=40)
LAST = Planes([], [], outer=240, classes=5, inner=1)


@pytest.mark.parametrize("planes", [PLAIN, LAST])
def test_channels(planes):
    field = Field.of_channels(planes)
    assert (field.all_groups, field.members) == (5, 240)


@pytest.mark.parametrize("planes", [PLAIN, LAST])
def test_images(planes):
    whole = Field.of_images(planes, 6, by_channel=False)
    assert (whole.all_groups, whole.members) == (6, 200)
    each = Field.of_images(planes, 6, by_channel=True)
    assert (each.all_groups, each.members) == (30, 40)


def test_small_groups_are_not_shared():
    assert Field(1, 1, 1, 40).slots() == 1
    assert Field(1, 1 << 20, 4, 1).slots() > 1


def test_many_groups_share_less():
    few, many = Field(1, 64, 16, 1 << 12), Field(1, 64, 4096, 1 << 12)
    assert few.slots() > many.slots() == 1
    assert few.slots(16) == 1
