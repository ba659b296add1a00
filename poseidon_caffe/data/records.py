"""DatumSource: a database of Datums as batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from poseidon_caffe.data.alike import RecordTemplate
from poseidon_caffe.data.batch import Batch
from poseidon_caffe.data.datum import decode, parse_datum
from poseidon_caffe.data.db import Database
from poseidon_caffe.data.image import ColorMode
from poseidon_caffe.data.transform import Transformer
from poseidon_caffe.errors import DataError, ShapeError
from poseidon_caffe.types import Array, Shape

__all__ = ["DatumSource", "decode_record"]


def decode_record(
    database: Database,
    index: int,
    value: bytes,
    mode: ColorMode = ColorMode.NATIVE,
) -> tuple[Any, Array]:
    """A record's Datum and its array (C, H, W); see `datum.decode`.

    Raises:
        DataError: a damaged record, named by database, number and key.
    """
    try:
        datum = parse_datum(value)
        return datum, decode(datum, mode)
    except DataError as error:
        key = database.key(index)
        raise DataError(
            f"{database.source}: record {index} (key {key!r}): {error}"
        ) from error


class DatumSource:
    """`BatchSource` over a database.

    Args:
        database: closed with this object.
        transformer: mean, scale, crop and mirror; its force_color and force_gray
            decide how encoded images are decoded.
        force_color: the old ``data_param.force_encoded_color``.

    Attributes:
        image_shape: (C, h, w) of the first record, transformed.
        encoded: whether the first record is a compressed image.

    Raises:
        DataError: the first record cannot be read.
        ShapeError: it does not fit the transformation.
    """

    def __init__(
        self, database: Database, transformer: Transformer, *, force_color: bool = False
    ) -> None:
        self._database = database
        self._transformer = transformer
        self._mode = ColorMode.NATIVE
        if transformer.settings.force_gray:
            self._mode = ColorMode.GRAY
        elif transformer.settings.force_color or force_color:
            self._mode = ColorMode.COLOR
        first = database.record(0)
        datum, image = decode_record(database, 0, first, self._mode)
        self._template = RecordTemplate.of(first)
        self.encoded = bool(datum.encoded)
        try:
            self.image_shape: Shape = transformer.output_shape(image.shape)
        except ShapeError as error:
            raise ShapeError(f"{database.source}: {error}") from error

    def __len__(self) -> int:
        return len(self._database)

    def fill(self, records: range, batch: Batch) -> None:
        """See `BatchSource.fill`.  The batch takes the shape of its first image.

        Raises:
            DataError: naming database and record.
            ShapeError: likewise.
        """
        size = len(self._database)
        indices = [record % size for record in records]
        values = self._database.records(indices)
        images = self._images(indices, values, batch)
        try:
            self._transformer.fill(images, records, batch)
        except (DataError, ShapeError) as error:
            raise type(error)(f"{self._where(indices)}: {error}") from error

    def _images(
        self, indices: Sequence[int], values: Sequence[bytes], batch: Batch
    ) -> Sequence[Array] | Array:
        """The records' images; their labels go into the batch."""
        together = self._template.split(values) if self._template else None
        if together is not None:
            pixels, batch.label[...] = together
            return pixels
        images: list[Array] = []
        for place, (index, value) in enumerate(zip(indices, values, strict=True)):
            datum, image = decode_record(self._database, index, value, self._mode)
            images.append(image)
            batch.label[place] = datum.label
        return images

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def _where(self, indices: Sequence[int]) -> str:
        first, last = indices[0], indices[-1]
        return f"{self._database.source}: in the batch of records {first} to {last}"
