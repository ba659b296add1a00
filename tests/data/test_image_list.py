"""What tests/layers/test_image_data.py does not show through a layer."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.data.batch import Batch
from poseidon_caffe.data.image import ColorMode, read_image
from poseidon_caffe.data.image_list import ImageListSettings, ImageListSource
from poseidon_caffe.data.resize import resize
from poseidon_caffe.data.transform import Transformer, TransformSettings
from poseidon_caffe.errors import ShapeError


@pytest.fixture
def make(golden):
    folder = golden / "data"

    def source(transform=None, **settings):
        listed = ImageListSettings(
            str(folder / "list.txt"), f"{folder / 'images'}/", **settings
        )
        return ImageListSource(listed, Transformer(transform or TransformSettings()))

    return source


def test_records_run_on_over_the_epochs(make, golden):
    source = make(new_height=7, new_width=9, gray=True)
    assert len(source) == 13
    assert source.image_shape(0) == (1, 7, 9)
    batch = Batch(4)
    source.fill(range(11, 19, 2), batch)
    assert batch.label.tolist() == [3, 0, 2, 0]  # lines 12, 1, 3 and 5
    name = golden / "data" / "images" / "img_04.png"
    expected = resize(read_image(name, ColorMode.GRAY), 7, 9)
    np.testing.assert_array_equal(batch.data[3], expected)


def test_another_key_is_another_order(make):
    source = make(new_height=2, new_width=2, shuffle=True)
    batch, seen = Batch(13), []
    for key in (1, 2, 1):
        source.rekey(key)
        source.fill(range(13), batch)
        seen.append(batch.data.copy())
    np.testing.assert_array_equal(seen[0], seen[2])
    assert not np.array_equal(seen[0], seen[1])


def test_a_first_image_that_does_not_fit(make):
    source = make(TransformSettings(crop_size=500))
    with pytest.raises(ShapeError, match=r"list\.txt:1: crop_size 500 is larger"):
        source.image_shape(0)
