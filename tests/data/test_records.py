from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.data.batch import Batch
from poseidon_caffe.data.datum import array_to_datum, encoded_datum
from poseidon_caffe.data.db import create_db, open_db
from poseidon_caffe.data.records import DatumSource
from poseidon_caffe.data.transform import Transformer, TransformSettings
from poseidon_caffe.errors import DataError, ShapeError


@pytest.fixture
def source_of(tmp_path):
    """Makes an LMDB of Datums or bytes and opens it."""
    opened = []

    def make(records, **options):
        settings = TransformSettings(**options.pop("transform", {}))
        with create_db(str(tmp_path / "db")) as writer:
            for i, record in enumerate(records):
                raw = (
                    record if isinstance(record, bytes) else record.SerializeToString()
                )
                writer.put(b"%03d" % i, raw)
        database = open_db(str(tmp_path / "db"))
        opened.append(database)
        return DatumSource(database, Transformer(settings), **options)

    yield make
    for database in opened:
        database.close()


def raw(value, shape=(1, 2, 3)):
    return array_to_datum(np.full(shape, value, np.uint8), value)


def test_records_go_round(source_of):
    source = source_of([raw(i) for i in range(3)])
    batch = Batch(4)
    source.fill(range(7, 15, 2), batch)
    assert batch.label.tolist() == [1, 0, 2, 1]
    assert batch.data[:, 0, 0, 0].tolist() == [1, 0, 2, 1]
    assert source.image_shape == (1, 2, 3)
    assert not source.encoded


def test_colors_of_encoded_images(source_of):
    image = np.zeros((1, 4, 5), np.uint8)
    source = source_of([encoded_datum(image, 0)], force_color=True)
    assert source.image_shape == (3, 4, 5)
    assert source.encoded


def test_gray_wins_over_the_old_field(source_of):
    image = np.zeros((3, 4, 5), np.uint8)
    transform = {"force_gray": True}
    source = source_of([encoded_datum(image, 0)], force_color=True, transform=transform)
    assert source.image_shape == (1, 4, 5)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (b"\xff\xff", "no Caffe Datum"),
        (raw(1).SerializeToString()[:-6], "record 2"),
        (encoded_datum(b"no image", 1), "no image"),
        (raw(3, (1, 2, 4)), r"image of shape \(1, 2, 4\) in a batch of shape"),
    ],
)
def test_a_damaged_record_is_named(source_of, bad, message):
    source = source_of([raw(0), raw(1), bad])
    source.fill(range(2), Batch(2))
    with pytest.raises(DataError, match=message) as caught:
        source.fill(range(1, 3), Batch(2))
    assert "db: " in str(caught.value)
    assert "record" in str(caught.value)


def test_a_damaged_first_record(source_of):
    with pytest.raises(DataError, match=r"record 0 \(key b'000'\)"):
        source_of([b"\xff\xff"])


def test_a_transformation_that_does_not_fit_names_the_database(source_of):
    with pytest.raises(ShapeError, match="db: crop_size 3 is larger"):
        source_of([raw(0)], transform={"crop_size": 3})
