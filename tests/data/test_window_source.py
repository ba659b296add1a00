"""How windows are drawn; tests/layers/test_window_data.py shows what they become."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.data.batch import Batch
from poseidon_caffe.data.image import encode_image
from poseidon_caffe.data.transform import Transformer, TransformSettings
from poseidon_caffe.data.window_file import WindowFile
from poseidon_caffe.data.window_source import WindowSettings, WindowSource

COUNT = 6


@pytest.fixture
def windows(tmp_path):
    """One image whose columns are 0, 1, 2, ...; window k is column k, labelled k."""
    image = np.broadcast_to(np.arange(20, dtype=np.uint8), (3, 2, 20))
    (tmp_path / "a.png").write_bytes(encode_image(image.copy(), "png"))
    rows = np.array([[0, k, k, 0, k, 1] for k in range(1, 2 * COUNT + 1)], np.int32)
    behind = rows[COUNT:].copy()
    behind[:, 1] = 0
    return WindowFile("w.txt", [f"{tmp_path}/a.png"], 3, rows[:COUNT], behind)


def drawn(windows, records, key=1, mirror=False, **settings):
    """The columns that were drawn."""
    how = WindowSettings(batch_size=len(records), crop_size=1, **settings)
    transformer = Transformer(TransformSettings(mirror=mirror), key=key)
    source = WindowSource(windows, how, transformer)
    assert len(source) == 2 * COUNT
    batch = Batch(len(records))
    source.fill(records, batch)
    found = batch.data[:, 0, 0, 0].astype(int)
    labels = np.where(found <= COUNT, found, 0)
    np.testing.assert_array_equal(batch.label, labels)
    source.close()
    return found.tolist()


def test_each_window_is_drawn_alike(windows):
    columns = drawn(windows, range(1200), fg_fraction=0.5)
    counts = np.bincount(columns, minlength=2 * COUNT + 1)[1:]
    # Five standard deviations of 600 draws of one in six.
    assert (abs(counts - 100) < 5 * np.sqrt(100 * 5 / 6)).all()


def test_the_number_and_the_key_decide(windows):
    whole = drawn(windows, range(20), fg_fraction=1)
    assert drawn(windows, range(7, 20, 2), fg_fraction=1) == whole[7::2]
    assert drawn(windows, range(20), fg_fraction=1, mirror=True) == whole
    assert drawn(windows, range(20), key=2, fg_fraction=1) != whole
    assert drawn(windows, range(20), fg_fraction=1, cache_images=True) == whole


def test_scale_comes_last(windows):
    how = WindowSettings(batch_size=8, fg_fraction=1, crop_size=2, scale=0.25)
    transformer = Transformer(TransformSettings(mean_values=(10,)), key=1)
    batch = Batch(8)
    WindowSource(windows, how, transformer).fill(range(8), batch)
    expected = np.broadcast_to(
        ((batch.label - 10) / 4)[:, None, None, None], (8, 3, 2, 2)
    )
    np.testing.assert_array_equal(batch.data, expected)
