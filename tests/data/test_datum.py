from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.data.datum import array_to_datum, decode, encoded_datum, parse_datum
from poseidon_caffe.data.image import ColorMode
from poseidon_caffe.errors import DataError
from poseidon_caffe.schema import messages

IMAGE = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


def test_bytes_and_back():
    datum = parse_datum(array_to_datum(IMAGE, 7).SerializeToString())
    assert datum.label == 7
    assert not datum.encoded
    back = decode(datum)
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back, IMAGE)


def test_floats_and_back():
    values = (IMAGE / 8 - 1).astype(np.float32)
    back = decode(parse_datum(array_to_datum(values, -3).SerializeToString()))
    assert back.dtype == np.float32
    np.testing.assert_array_equal(back, values)


def test_wire_format_is_caffes():
    # channels, height, width, data, label, encoded: each written, as Caffe does.
    raw = array_to_datum(np.full((1, 1, 2), 5, np.uint8), 3).SerializeToString()
    assert raw.hex() == "080110011802220205052803" + "3800"


def test_an_encoded_image_and_back():
    color = np.stack([IMAGE[0], IMAGE[1], IMAGE[0]])
    datum = encoded_datum(color, 1)
    assert datum.encoded
    np.testing.assert_array_equal(decode(datum), color)
    assert decode(datum, ColorMode.GRAY).shape == (1, 3, 4)


def test_force_color_leaves_raw_data_alone():
    datum = array_to_datum(IMAGE, 0)
    assert decode(datum, ColorMode.COLOR).shape == IMAGE.shape


@pytest.mark.parametrize("change", [{"height": 4}, {"channels": 0}, {"data": b"abc"}])
def test_sizes_that_disagree(change):
    datum = array_to_datum(IMAGE, 0)
    for name, value in change.items():
        setattr(datum, name, value)
    with pytest.raises(DataError, match="that holds"):
        decode(datum)


def test_no_data():
    with pytest.raises(DataError, match="a Datum without data"):
        decode(messages.Datum(channels=1, height=1, width=1))


def test_bytes_that_are_no_datum():
    with pytest.raises(DataError, match="no Caffe Datum"):
        parse_datum(b"\xff\xff\xff")


def test_a_damaged_image():
    with pytest.raises(DataError, match="no image"):
        decode(messages.Datum(data=b"broken", encoded=True))
