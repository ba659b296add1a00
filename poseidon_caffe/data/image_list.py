"""ImageListSource: the image files of a list as batches."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from poseidon_caffe.data.batch import Batch
from poseidon_caffe.data.image import ColorMode, read_image
from poseidon_caffe.data.imageset import read_list
from poseidon_caffe.data.order import EpochOrder
from poseidon_caffe.data.resize import resize
from poseidon_caffe.data.transform import Transformer
from poseidon_caffe.errors import DataError, ShapeError
from poseidon_caffe.types import Array, Shape

__all__ = ["ImageListSettings", "ImageListSource"]

_SHUFFLE = 4  # the stream of draws that orders epochs


@dataclass(frozen=True)
class ImageListSettings:
    """Which images, and how they are read.

    Attributes:
        list_file: lines of a path, a blank and an integer label.
        root_folder: put before each path as it is (so it ends in "/").
        new_height, new_width: size of every image; 0 keeps it.
        gray: one channel instead of three.
        shuffle: a new order in each epoch.
    """

    list_file: str
    root_folder: str = ""
    new_height: int = 0
    new_width: int = 0
    gray: bool = False
    shuffle: bool = False


class ImageListSource:
    """`BatchSource` over a list of image files.

    Args:
        settings: see `ImageListSettings`.
        transformer: mean, scale, crop and mirror; its key also orders the epochs.

    Raises:
        ParseError: the list cannot be read, is empty, or a line has no label.
    """

    def __init__(self, settings: ImageListSettings, transformer: Transformer) -> None:
        self._settings = settings
        self._transformer = transformer
        self._mode = ColorMode.GRAY if settings.gray else ColorMode.COLOR
        self._images = read_list(settings.list_file)
        self._order = EpochOrder(
            len(self._images),
            transformer.key,
            shuffle=settings.shuffle,
            stream=_SHUFFLE,
        )

    def __len__(self) -> int:
        return len(self._images)

    def rekey(self, key: int) -> None:
        """Order, crop and mirror by another key from now on."""
        self._transformer.key = key
        self._order.rekey(key)

    def image_shape(self, record: int) -> Shape:
        """(C, h, w) of a record, transformed; reads its file.

        Raises:
            DataError: naming the list's line.
            ShapeError: likewise.
        """
        index = self._order.index(record)
        try:
            return self._transformer.output_shape(self._read(index).shape)
        except (DataError, ShapeError) as error:
            raise type(error)(f"{self._where(index)}: {error}") from error

    def fill(self, records: range, batch: Batch) -> None:
        """See `BatchSource.fill`.  The batch takes the shape of its first image.

        Raises:
            DataError: naming the list's line.
            ShapeError: likewise.
        """
        resized = bool(self._settings.new_height and self._settings.new_width)
        room: Array | None = None
        for place, record in enumerate(records):
            index = self._order.index(record)
            try:
                image = self._read(index)
                if place == 0:
                    if resized:  # all to one size
                        room = self._transformer.stage(image, records, batch)
                    if room is None:
                        batch.shape_data(self._transformer.output_shape(image.shape))
                if room is not None:
                    np.copyto(room[place], image)
                else:
                    # One by one: a batch of whole photographs fills the memory.
                    here = slice(place, place + 1)
                    number = range(record, record + 1)
                    self._transformer.apply([image], number, batch.data[here])
            except (DataError, ShapeError) as error:
                raise type(error)(f"{self._where(index)}: {error}") from error
            batch.label[place] = self._images[index].label

    def close(self) -> None:
        """Nothing: no file stays open."""

    def _read(self, index: int) -> Array:
        settings = self._settings
        path = Path(settings.root_folder + self._images[index].path)
        image = read_image(path, self._mode)
        if settings.new_height and settings.new_width:
            image = resize(image, settings.new_height, settings.new_width)
        return image

    def _where(self, index: int) -> str:
        return f"{self._settings.list_file}:{self._images[index].line}"
