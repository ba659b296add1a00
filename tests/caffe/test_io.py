from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe import caffe
from poseidon_caffe.caffe.proto import caffe_pb2
from poseidon_caffe.errors import DataError, ParseError, ShapeError


def test_uint8_datum():
    image = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    datum = caffe.io.array_to_datum(image, label=7)
    assert (datum.channels, datum.height, datum.width, datum.label) == (2, 3, 4, 7)
    assert datum.data == image.tobytes()
    assert not datum.float_data
    again = caffe.io.datum_to_array(datum)
    assert again.dtype == np.uint8
    np.testing.assert_array_equal(again, image)
    again[...] = 0  # a copy of its own


def test_float_datum():
    image = np.random.default_rng(0).standard_normal((1, 2, 3)).astype(np.float32)
    datum = caffe.io.array_to_datum(image)
    assert not datum.data
    assert not datum.HasField("label")
    np.testing.assert_array_equal(caffe.io.datum_to_array(datum), image)


def test_strided_images_keep_their_order():
    image = np.arange(24, dtype=np.uint8).reshape(4, 3, 2).transpose(2, 1, 0)
    datum = caffe.io.array_to_datum(image)
    np.testing.assert_array_equal(caffe.io.datum_to_array(datum), image)


def test_wrong_datums():
    with pytest.raises(ShapeError, match=r"\(2, 3\)"):
        caffe.io.array_to_datum(np.zeros((2, 3)))
    with pytest.raises(DataError, match="encoded"):
        caffe.io.datum_to_array(caffe_pb2.Datum(encoded=True, data=b"x"))
    with pytest.raises(DataError, match="holds 1 values"):
        caffe.io.datum_to_array(
            caffe_pb2.Datum(channels=1, height=2, width=2, data=b"x")
        )


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4, 5), (1, 2, 1, 2, 1)])
def test_blobproto(shape):
    array = np.random.default_rng(1).standard_normal(shape)
    blob = caffe.io.array_to_blobproto(array, diff=-array)
    assert list(blob.shape.dim) == list(shape)
    np.testing.assert_array_equal(
        caffe.io.blobproto_to_array(blob), array.astype(np.float32)
    )
    np.testing.assert_array_equal(
        caffe.io.blobproto_to_array(blob, return_diff=True), -array.astype(np.float32)
    )
    assert blob == caffe_pb2.BlobProto.FromString(blob.SerializeToString())


def test_old_blobproto_has_four_axes():
    blob = caffe_pb2.BlobProto(num=1, channels=2, height=1, width=3, data=range(6))
    array = caffe.io.blobproto_to_array(blob)
    np.testing.assert_array_equal(array, np.arange(6).reshape(1, 2, 1, 3))


def test_wrong_blobprotos():
    blob = caffe.io.array_to_blobproto(np.zeros(3))
    with pytest.raises(DataError, match="no gradient"):
        caffe.io.blobproto_to_array(blob, return_diff=True)
    with pytest.raises(ShapeError, match="data's shape"):
        caffe.io.array_to_blobproto(np.zeros(3), np.zeros(4))
    del blob.data[1:]
    with pytest.raises(ParseError, match="3 values but holds 1"):
        caffe.io.blobproto_to_array(blob)


def test_vectors_of_blobprotos():
    arrays = [np.arange(6.0).reshape(2, 3), np.ones(2)]
    data = caffe.io.arraylist_to_blobprotovector_str(arrays)
    again = caffe.io.blobprotovector_str_to_arraylist(data)
    assert len(again) == 2
    for left, right in zip(arrays, again, strict=True):
        np.testing.assert_array_equal(left, right)


def test_blobprotos_without_shape():
    assert caffe.io.blobproto_to_array(caffe_pb2.BlobProto(data=[123])) == 123
    with pytest.raises(ValueError, match="no shape"):
        caffe.io.blobproto_to_array(caffe_pb2.BlobProto(data=[1, 2, 3]))


def test_errors_are_value_errors_too():
    blob = caffe.io.array_to_blobproto(np.zeros(3))
    with pytest.raises(ValueError, match="no gradient"):
        caffe.io.blobproto_to_array(blob, return_diff=True)
    with pytest.raises(ValueError, match="Datum is"):
        caffe.io.array_to_datum(np.zeros(3))
    with pytest.raises(ValueError, match="holds 0 values"):
        caffe.io.datum_to_array(caffe_pb2.Datum(channels=1, height=2, width=2))
    with pytest.raises(ParseError, match="3 bytes that are no BlobProtoVector"):
        caffe.io.blobprotovector_str_to_arraylist(b"\xff\xff\xff")


def test_names_that_scripts_use():
    assert caffe.io.caffe_pb2 is caffe_pb2
    both = (caffe.io.arraylist_to_blobprotovecor_str, np.ones(2))
    assert both[0]([both[1]]) == caffe.io.arraylist_to_blobprotovector_str([both[1]])
