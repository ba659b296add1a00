"""Caffe's DataTransformer: mean, scale, crop and mirror on the way to a batch.

Per value: ``(pixel - mean) * scale``, with the mean image cropped at the same
place as the picture.  TRAIN crops at random, TEST in the middle; mirroring, when
asked for, is random in both phases.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from poseidon_caffe.backend.parcel import PixelRule
from poseidon_caffe.data import draws
from poseidon_caffe.data.batch import Batch
from poseidon_caffe.errors import DataError, LayerError, ShapeError
from poseidon_caffe.schema.mean import read_mean
from poseidon_caffe.types import Array, Phase, Shape

__all__ = ["TransformSettings", "Transformer"]

_MIRROR, _ROW, _COLUMN = range(3)
_SMALL_BYTES = 32 << 10


@dataclass(frozen=True)
class TransformSettings:
    """What a TransformationParameter asks for.

    Attributes:
        scale: factor after the mean is taken off.
        mirror: flip half of the records left to right.
        crop_size: side of the square to cut out, 0 for none.
        mean_file: a .binaryproto, or "".
        mean_values: one number, or one per channel, or ().
        force_color, force_gray: channels of encoded images.
    """

    scale: float = 1.0
    mirror: bool = False
    crop_size: int = 0
    mean_file: str = ""
    mean_values: tuple[float, ...] = ()
    force_color: bool = False
    force_gray: bool = False

    @classmethod
    def from_message(cls, param: Any) -> TransformSettings:
        """The settings in a TransformationParameter.

        Raises:
            LayerError: fields that exclude each other.
        """
        if param.mean_file and param.mean_value:
            raise LayerError("mean_file and mean_value exclude each other: keep one")
        if param.force_color and param.force_gray:
            raise LayerError("force_color and force_gray exclude each other: keep one")
        return cls(
            scale=param.scale,
            mirror=param.mirror,
            crop_size=param.crop_size,
            mean_file=param.mean_file,
            mean_values=tuple(param.mean_value),
            force_color=param.force_color,
            force_gray=param.force_gray,
        )


@dataclass(frozen=True)
class _Draw:
    """What was drawn for the records of a batch; None where nothing is random."""

    mirror: npt.NDArray[np.bool_] | None
    rows: npt.NDArray[np.int64] | None
    columns: npt.NDArray[np.int64] | None


class Transformer:
    """Turns decoded records into rows of a batch.

    Calls may come from several threads: only ``key`` may change after construction.

    Args:
        settings: see `TransformSettings`.
        phase: TRAIN crops at random.
        key: of the random draws; see `data.draws`.

    Raises:
        ParseError: the mean file cannot be read.
    """

    def __init__(
        self, settings: TransformSettings, phase: Phase = Phase.TRAIN, key: int = 0
    ) -> None:
        self.settings = settings
        self.phase = phase
        self.key = key
        self._mean = read_mean(settings.mean_file) if settings.mean_file else None

    @property
    def mean(self) -> Array | None:
        """The mean image (C, H, W), float32, if the settings name one."""
        return self._mean

    @property
    def rule(self) -> PixelRule:
        """What becomes of a pixel, for devices that do it."""
        settings = self.settings
        return PixelRule(self._mean, settings.mean_values, settings.scale)

    def output_shape(self, shape: Shape) -> Shape:
        """Shape (C, h, w) of what becomes of a record of shape (C, H, W).

        Raises:
            ShapeError: the crop, the mean image or the mean values do not fit.
        """
        channels, height, width = shape
        crop = self.settings.crop_size
        if crop > min(height, width):
            raise ShapeError(
                f"crop_size {crop} is larger than the image of {height}x{width}"
            )
        if self._mean is not None and self._mean.shape != tuple(shape):
            raise ShapeError(
                f"the mean image {self.settings.mean_file} has the shape "
                f"{self._mean.shape}, the records {tuple(shape)} (channels, height, "
                "width); make it from the same database (poseidon compute_image_mean)"
            )
        values = len(self.settings.mean_values)
        if values not in {0, 1, channels}:
            raise ShapeError(
                f"{values} mean_value for {channels} channels: give one, or one each"
            )
        return (channels, crop, crop) if crop else (channels, height, width)

    def apply(
        self, images: Sequence[Array] | Array, records: range, out: Array
    ) -> None:
        """Transform ``images`` into ``out``.

        Args:
            images: (C, H, W) arrays, uint8 or float32; or one array of them all.
            records: the global number of each, which decides what is drawn.
            out: float32 (N, C, h, w), overwritten; any strides.

        Raises:
            ShapeError: an image does not fit the settings.
            DataError: an image becomes another shape than ``out`` has.
        """
        draw = self._draw(images, records)
        if isinstance(images, np.ndarray):
            self._apply_together(images, draw, out)
        elif _stackable(images):
            parts: Any = images  # contiguous arrays are bytes to join
            pixels = np.frombuffer(b"".join(parts), np.uint8)
            self._apply_together(pixels.reshape(-1, *images[0].shape), draw, out)
        else:
            for index, image in enumerate(images):
                self._apply_one(index, image, draw, out[index])

    def fill(
        self, images: Sequence[Array] | Array, records: range, batch: Batch
    ) -> None:
        """Transform ``images`` into a batch, or put them there for a device to do it.

        The batch takes the shape of the first image; see `apply`.
        """
        room = self.stage(images[0], records, batch) if _alike(images) else None
        if room is None:
            batch.shape_data(self.output_shape(images[0].shape))
            self.apply(images, records, batch.data)
        elif isinstance(images, np.ndarray):
            np.copyto(room, images)
        else:
            for place, image in zip(room, images, strict=True):
                np.copyto(place, image)

    def stage(self, image: Array, records: range, batch: Batch) -> Array | None:
        """Room in a batch for images as they are, for a device to transform.

        What it needs to know is drawn and written.

        Args:
            image: the first; the others must be of its shape and type.
            records: see `apply`.
            batch: takes the shape of the image.

        Returns:
            (N, C, H, W), None if the batch wants images transformed.

        Raises:
            ShapeError: the image does not fit the settings.
        """
        shape = image.shape
        room = batch.untransformed(image, self.output_shape(shape))
        if room is None:
            return None
        pixels, places = room
        draw = self._draw(np.broadcast_to(image, (len(records), *shape)), records)
        _, rows, columns = self._window(shape, 0, draw)
        places[:, 0] = rows.start or 0 if draw.rows is None else draw.rows
        places[:, 1] = columns.start or 0 if draw.columns is None else draw.columns
        places[:, 2] = 0 if draw.mirror is None else draw.mirror
        return pixels

    # -- what is random ----------------------------------------------------------
    def _draw(self, images: Sequence[Array] | Array, records: range) -> _Draw:
        mirror = rows = columns = None
        crop = self.settings.crop_size
        if self.settings.mirror:
            drawn = draws.bits(self.key, records, _MIRROR) >> np.uint64(63)
            mirror = drawn.astype(np.bool_)
        if crop and self.phase == Phase.TRAIN:
            # Images of one database may differ in size when they are cropped.
            spare = np.array([image.shape[1:] for image in images]) - crop + 1
            limits = np.maximum(spare, 1)
            rows = draws.below(limits[:, 0], self.key, records, _ROW)
            columns = draws.below(limits[:, 1], self.key, records, _COLUMN)
        return _Draw(mirror, rows, columns)

    # -- two ways to do the same -----------------------------------------------------
    def _apply_together(self, pixels: Array, draw: _Draw, out: Array) -> None:
        """All images of one shape in a few NumPy calls."""
        shape = pixels.shape[1:]
        target = self._check(shape, out.shape[1:])
        mean = self._mean
        if draw.rows is not None:
            side = (target[1], target[2])
            # Every place where a crop may lie, as views; then one place per record.
            places = sliding_window_view(pixels, side, axis=(2, 3))
            each = np.arange(len(pixels))
            pixels = places[each, :, draw.rows, draw.columns]
            if mean is not None:
                around = sliding_window_view(mean, side, axis=(1, 2))
                mean = around[:, draw.rows, draw.columns]
        elif self.settings.crop_size:
            window = self._window(shape, 0, draw)
            pixels = pixels[(slice(None), *window)]
            mean = None if mean is None else mean[window]
        self._subtract(pixels.swapaxes(0, 1), mean, out.swapaxes(0, 1))
        if draw.mirror is not None:
            out[draw.mirror] = out[draw.mirror, :, :, ::-1]
        self._multiply(out)

    def _apply_one(self, index: int, image: Array, draw: _Draw, out: Array) -> None:
        """One image, while its values are in the cache."""
        self._check(image.shape, out.shape)
        window = self._window(image.shape, index, draw)
        mean = None if self._mean is None else self._mean[window]
        flipped = draw.mirror is not None and bool(draw.mirror[index])
        # Flipping the target mirrors the picture and its mean together.
        self._subtract(image[window], mean, out[:, :, ::-1] if flipped else out)
        self._multiply(out)

    def _check(self, shape: Shape, wanted: Shape) -> Shape:
        target = self.output_shape(shape)
        if target != tuple(wanted):
            raise DataError(
                f"an image of shape {target} in a batch of shape {tuple(wanted)} "
                "(channels, height, width): all images of a batch must be of one "
                "size; set crop_size, or resize them when making the database"
            )
        return target

    def _window(
        self, shape: Shape, index: int, draw: _Draw
    ) -> tuple[slice, slice, slice]:
        """The part of an image that is kept."""
        _, height, width = shape
        crop = self.settings.crop_size
        if not crop:
            return slice(None), slice(None), slice(None)
        if draw.rows is None or draw.columns is None:
            row, column = (height - crop) // 2, (width - crop) // 2
        else:
            row, column = int(draw.rows[index]), int(draw.columns[index])
        return slice(None), slice(row, row + crop), slice(column, column + crop)

    def _subtract(self, pixels: Array, mean: Array | None, out: Array) -> None:
        """``out = pixels - mean``; all have their channels first.

        Going by channel keeps the inner loops long when ``out`` is channels-last.
        """
        values = self.settings.mean_values
        for channel, (part, place) in enumerate(zip(pixels, out, strict=True)):
            if mean is not None:
                np.subtract(part, mean[channel], out=place)
            elif values:
                value = np.float32(values[channel % len(values)])
                np.subtract(part, value, out=place)
            else:
                np.copyto(place, part)

    def _multiply(self, out: Array) -> None:
        if self.settings.scale != 1:
            np.multiply(out, np.float32(self.settings.scale), out=out)


def _alike(images: Sequence[Array] | Array) -> bool:
    """Whether all have one shape and type."""
    first = images[0]
    return isinstance(images, np.ndarray) or all(
        image.shape == first.shape and image.dtype == first.dtype for image in images
    )


def _stackable(images: Sequence[Array]) -> bool:
    """Whether all are small raw images of one shape, next to each other in memory."""
    shape = images[0].shape
    return images[0].nbytes <= _SMALL_BYTES and all(
        image.shape == shape and image.dtype == np.uint8 and image.flags.c_contiguous
        for image in images
    )
