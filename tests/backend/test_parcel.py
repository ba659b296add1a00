from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.parcel import Parcel, head_bytes, labels_in, places_in

KINDS = [
    {},
    {"channels_last": True},
    {"channels_last": True, "backwards": True},
]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_parts_lie_apart(kind, dtype):
    parcel = Parcel(5, (3, 2, 4), (3, 2, 2), np.dtype(dtype), **kind)
    memory = np.zeros(parcel.nbytes, np.uint8)
    parts = [labels_in(memory, 5), places_in(memory, 5), parcel.images(memory)]
    assert [part.shape for part in parts] == [(5,), (5, 3), (5, 3, 2, 4)]
    assert [part.dtype for part in parts] == [np.float32, np.int32, dtype]
    for number, part in enumerate(parts):
        part[...] = number + 1
    assert all((part == n + 1).all() for n, part in enumerate(parts))
    assert head_bytes(5) % 256 == 0


def test_images_lie_as_they_say():
    channels = np.arange(3)[:, np.newaxis, np.newaxis]
    seen = []
    for kind in KINDS:
        parcel = Parcel(1, (3, 1, 2), (3, 1, 2), np.dtype(np.uint8), **kind)
        memory = np.zeros(parcel.nbytes, np.uint8)
        parcel.images(memory)[...] = channels
        seen.append(parcel.raw_images(memory).tolist())
    assert seen == [[0, 0, 1, 1, 2, 2], [0, 1, 2, 0, 1, 2], [2, 1, 0, 2, 1, 0]]
