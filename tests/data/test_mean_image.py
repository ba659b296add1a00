from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.data.datum import array_to_datum
from poseidon_caffe.data.db import create_db
from poseidon_caffe.data.mean_image import compute_image_mean
from poseidon_caffe.errors import DataError
from poseidon_caffe.schema.mean import read_mean


class Lines(list):
    def info(self, text):
        self.append(text)


def database(path, arrays):
    with create_db(str(path)) as writer:
        for i, array in enumerate(arrays):
            writer.put(b"%03d" % i, array_to_datum(array, 0).SerializeToString())
    return str(path)


def test_same_file_as_caffe(golden, tmp_path):
    lines = Lines()
    target = tmp_path / "mean.binaryproto"
    mean = compute_image_mean(
        str(golden / "data" / "raw_lmdb"), str(target), notes=lines
    )
    assert target.read_bytes() == (golden / "data" / "mean.binaryproto").read_bytes()
    np.testing.assert_array_equal(read_mean(target), mean)
    assert lines == [
        "Starting iteration",
        "Processed 13 files.",
        f"Write to {target}",
        "Number of channels: 3",
        *(f"mean_value channel [{c}]: {mean[c].mean():g}" for c in range(3)),
    ]


def test_encoded_images_have_the_same_mean(golden):
    raw = compute_image_mean(str(golden / "data" / "raw_lmdb"))
    png = compute_image_mean(str(golden / "data" / "png_lmdb"))
    np.testing.assert_array_equal(raw, png)


def test_floats(tmp_path):
    arrays = [np.full((1, 2, 2), v, np.float32) for v in (0.5, -1, 2)]
    mean = compute_image_mean(database(tmp_path / "db", arrays))
    np.testing.assert_allclose(mean, 0.5)


def test_different_sizes(tmp_path):
    arrays = [np.zeros((1, 2, 2), np.uint8), np.zeros((1, 2, 3), np.uint8)]
    source = database(tmp_path / "db", arrays)
    with pytest.raises(DataError, match="record 1 has the shape"):
        compute_image_mean(source, str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
