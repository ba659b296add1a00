"""Many records at once: raw Datums that differ in pixels and label only.

Small datasets (MNIST, CIFAR-10) spend more time in parsing records one by one than in
anything else, and Python holds the interpreter's lock meanwhile, which the computing
thread needs between kernels.  Records written by one program lie alike in bytes, so a
batch of them is one array; whatever does not fit is parsed one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from poseidon_caffe.data.datum import parse_datum
from poseidon_caffe.types import Array, Shape

__all__ = ["RecordTemplate"]

_DATA_TAG, _LABEL_TAG = 0x22, 0x28
_MAX_RECORD_BYTES = 16 << 10
_MORE = 0x80  # a varint's byte that another one follows


@dataclass(frozen=True)
class RecordTemplate:
    """How the bytes of a record lie.

    Attributes:
        shape: (C, H, W) of the pixels.
        head: bytes before the pixels.
        label_bytes: 1 or 2: length of the label's varint, after its tag.
        tail: bytes after the label.
    """

    shape: Shape
    head: bytes
    label_bytes: int
    tail: bytes

    @classmethod
    def of(cls, record: bytes) -> RecordTemplate | None:
        """The template of a record, None if it is none that can be stacked.

        Raises:
            DataError: the bytes are no Datum.
        """
        datum = parse_datum(record)
        shape = (datum.channels, datum.height, datum.width)
        size = int(np.prod(shape))
        plain = datum.data and not datum.encoded and len(datum.data) == size
        if not plain or len(record) > _MAX_RECORD_BYTES:
            return None
        start = record.find(_data_field(size) + datum.data)
        after = record[start + len(_data_field(size)) + size :]
        if start < 0 or len(after) < 2 or after[0] != _LABEL_TAG:
            return None
        label_bytes = 2 if after[1] & _MORE else 1
        tail = after[1 + label_bytes :]
        head = record[: start + len(_data_field(size))]
        made = cls(shape, head, label_bytes, tail)
        found = made.split([record])
        # The template must say what the parser said, whatever else is in the record.
        if found is None or int(found[1][0]) != datum.label:
            return None
        return made

    def split(self, records: Sequence[bytes]) -> tuple[Array, Array] | None:
        """(pixels (N, C, H, W) uint8, labels (N,)), or None if one does not fit."""
        length = len(self.head) + int(np.prod(self.shape)) + 1
        length += self.label_bytes + len(self.tail)
        if any(len(record) != length for record in records):
            return None
        table = np.frombuffer(b"".join(records), np.uint8).reshape(-1, length)
        start, end = len(self.head), len(self.head) + int(np.prod(self.shape))
        label = table[:, end + 1 : end + 1 + self.label_bytes]
        ends = (label & _MORE).astype(bool)
        fits = (
            _all_are(table[:, :start], self.head)
            and _all_are(table[:, end : end + 1], bytes([_LABEL_TAG]))
            and _all_are(table[:, end + 1 + self.label_bytes :], self.tail)
            and not ends[:, -1].any()
            and bool(ends[:, :-1].all())
        )
        if not fits:
            return None
        values: Any = label[:, 0] & (_MORE - 1)
        if self.label_bytes == 2:
            values = values + (label[:, 1].astype(np.int32) << 7)
        return table[:, start:end].reshape(-1, *self.shape), values


def _data_field(size: int) -> bytes:
    """Tag and length in front of ``size`` bytes of pixels."""
    out = bytearray([_DATA_TAG])
    while size >= _MORE:
        out.append(size & (_MORE - 1) | _MORE)
        size >>= 7
    out.append(size)
    return bytes(out)


def _all_are(columns: Array, expected: bytes) -> bool:
    return bool((columns == np.frombuffer(expected, np.uint8)).all())
