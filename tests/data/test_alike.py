"""Stacked records are what the parser makes of them one by one."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.data.alike import RecordTemplate
from poseidon_caffe.data.datum import array_to_datum, parse_datum
from poseidon_caffe.schema.messages import Datum


def record(seed, label, shape=(3, 4, 5)):
    pixels = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
    return array_to_datum(pixels, label).SerializeToString()


def check(records):
    template = RecordTemplate.of(records[0])
    assert template is not None
    pixels, labels = template.split(records)
    for raw, image, label in zip(records, pixels, labels, strict=True):
        datum = parse_datum(raw)
        assert image.tobytes() == datum.data
        assert int(label) == datum.label


@pytest.mark.parametrize("labels", [range(10), [0, 127], [128, 999, 16383]])
def test_as_the_parser(labels):
    check([record(i, label) for i, label in enumerate(labels)])


def test_caffes_own_records(golden):
    import lmdb

    path = str(golden / "data" / "raw_lmdb")
    with lmdb.open(path, readonly=True, lock=False) as env, env.begin() as view:
        check([bytes(value) for _, value in view.cursor()])


def test_without_the_encoded_field():
    datum = Datum(channels=1, height=2, width=2, data=b"abcd", label=3)
    check([datum.SerializeToString()] * 2)


def test_pixels_that_look_like_fields():
    data = bytes([0x22, 4, 0x28, 1] * 5)
    datum = Datum(channels=1, height=4, width=5, data=data, label=7)
    check([datum.SerializeToString()])


@pytest.mark.parametrize(
    "other",
    [
        record(1, 200),  # a longer label
        record(1, 3, (3, 5, 4)),  # same length, another shape
        record(1, 3, (3, 4, 6)),
        record(1, -1),
        b"",
    ],
)
def test_records_that_differ_are_left_to_the_parser(other):
    template = RecordTemplate.of(record(0, 1))
    assert template.split([record(0, 1), other]) is None


@pytest.mark.parametrize(
    "datum",
    [
        Datum(channels=1, height=2, width=2, data=b"abcd", encoded=True, label=1),
        Datum(channels=1, height=2, width=2, float_data=[1, 2, 3, 4], label=1),
        Datum(channels=1, height=2, width=2, data=b"abcd"),
        Datum(channels=1, height=2, width=2, data=b"abcd", label=-5),
        Datum(channels=1, height=2, width=3, data=b"abcd", label=1),
        Datum(channels=1, height=2, width=2, data=b"abcd", label=70000),
        Datum(channels=1, height=200, width=200, data=b"a" * 40000, label=1),
    ],
)
def test_no_template_for_what_cannot_be_stacked(datum):
    assert RecordTemplate.of(datum.SerializeToString()) is None
