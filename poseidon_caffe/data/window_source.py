"""WindowSource: windows of images, drawn by foreground and background, as batches."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from poseidon_caffe.data import draws
from poseidon_caffe.data.batch import Batch
from poseidon_caffe.data.image import ColorMode, decode_image, read_image
from poseidon_caffe.data.resize import resize
from poseidon_caffe.data.transform import Transformer
from poseidon_caffe.data.window_crop import crop_window
from poseidon_caffe.data.window_file import Box, WindowFile
from poseidon_caffe.errors import DataError, ShapeError
from poseidon_caffe.types import Array

__all__ = ["WindowSettings", "WindowSource"]

_MIRROR, _WINDOW = 0, 5  # streams of draws
_COLORS = 3


@dataclass(frozen=True)
class WindowSettings:
    """How windows are drawn and warped.

    Attributes:
        batch_size: windows of a batch.
        fg_fraction: of a batch that is foreground; it comes last.
        crop_size: side of the result.
        context_pad: pixels of surroundings on each side of the result.
        square: widen windows to squares.
        scale: factor after the mean is taken off.
        root_folder: put before each path as it is.
        cache_images: keep all files in memory.
    """

    batch_size: int
    fg_fraction: float
    crop_size: int
    context_pad: int = 0
    square: bool = False
    scale: float = 1.0
    root_folder: str = ""
    cache_images: bool = False

    @property
    def backgrounds(self) -> int:
        """How many windows of a batch are background; they come first."""
        share = np.float32(self.batch_size) * np.float32(self.fg_fraction)
        return self.batch_size - int(share)


class WindowSource:
    """`BatchSource` over a window file.

    Records are draws with replacement: the place in the batch decides whether one
    is of the foreground, its global number which window it is and whether it is
    mirrored.  So threads, workers and resumes change nothing.

    Args:
        windows: closed with this object.
        settings: see `WindowSettings`.
        transformer: mirror, mean and key; crops are the windows themselves.

    Raises:
        DataError: no windows of a kind that batches need; an image to be kept
            cannot be read.
        ShapeError: the mean does not fit.
    """

    def __init__(
        self, windows: WindowFile, settings: WindowSettings, transformer: Transformer
    ) -> None:
        self._windows = windows
        self._settings = settings
        self._transformer = transformer
        self._check_windows()
        self._mean = self._mean_of(transformer)
        self._files: list[bytes] | None = None
        if settings.cache_images:
            self._files = [_bytes(self._path(i)) for i in range(len(windows.images))]

    def __len__(self) -> int:
        return len(self._windows.foreground) + len(self._windows.background)

    def fill(self, records: range, batch: Batch) -> None:
        """See `BatchSource.fill`.

        Raises:
            DataError: naming file, image and window.
        """
        side = self._settings.crop_size
        batch.shape_data((_COLORS, side, side))
        batch.data[...] = 0
        boxes = self._draw(records)
        flips = self._flips(records)
        last, image = -1, batch.data
        # Windows of one image come together, so that it is decoded once.
        for place in sorted(range(len(boxes)), key=lambda at: boxes[at].image):
            box = boxes[place]
            try:
                if box.image != last:
                    image = self._read(box.image)
                    last = box.image
                self._put(image, box, flip=flips[place], out=batch.data[place])
            except DataError as error:
                raise DataError(
                    f"{self._windows.path}: image {box.image} "
                    f"({self._path(box.image)}): {error}"
                ) from error
            batch.label[place] = box.label

    def close(self) -> None:
        """Forget the files that were kept."""
        self._files = None

    # -- opening -----------------------------------------------------------------
    def _check_windows(self) -> None:
        windows, settings = self._windows, self._settings
        counts = (settings.backgrounds, settings.batch_size - settings.backgrounds)
        kinds = (("background", windows.background), ("foreground", windows.foreground))
        for count, (name, found) in zip(counts, kinds, strict=True):
            if count and not len(found):
                raise DataError(
                    f"{windows.path}: no {name} windows, and each batch needs {count}; "
                    "see fg_threshold, bg_threshold and fg_fraction"
                )
        if windows.channels != _COLORS:
            raise DataError(
                f"{windows.path}: the last image has {windows.channels} channels by "
                "the file; images are read in colour, so write 3"
            )

    def _mean_of(self, transformer: Transformer) -> Array | None:
        """What is taken off a whole crop: (3, side, side), (3, 1, 1) or nothing."""
        side = self._settings.crop_size
        values, mean = transformer.settings.mean_values, transformer.mean
        if values:
            if len(values) not in {1, _COLORS}:
                raise ShapeError(f"{len(values)} mean_value for 3 channels")
            each = np.array(values, np.float32).reshape(-1, 1, 1)
            return np.broadcast_to(each, (_COLORS, 1, 1))
        if mean is None:
            return None
        # Caffe parity: the width decides the offset in both directions.
        first = (mean.shape[2] - side) // 2
        part = mean[:, first : first + side, first : first + side]
        if first < 0 or part.shape != (_COLORS, side, side):
            raise ShapeError(
                f"the mean image {transformer.settings.mean_file} has the shape "
                f"{mean.shape}, too small for crops of (3, {side}, {side})"
            )
        return part

    # -- a batch -------------------------------------------------------------------
    def _draw(self, records: range) -> list[Box]:
        split = self._settings.backgrounds
        behind, front = self._windows.background, self._windows.foreground
        boxes: list[Box] = []
        for windows, numbers in ((behind, records[:split]), (front, records[split:])):
            if numbers:
                key = self._transformer.key
                drawn = draws.below(len(windows), key, numbers, _WINDOW)
                boxes += [Box(*row) for row in windows[drawn].tolist()]
        return boxes

    def _flips(self, records: range) -> list[bool]:
        if not self._transformer.settings.mirror:
            return [False] * len(records)
        drawn = draws.bits(self._transformer.key, records, _MIRROR)
        return [bool(value) for value in drawn >> np.uint64(63)]

    def _put(self, image: Array, box: Box, *, flip: bool, out: Array) -> None:
        """Warp a window into ``out`` (3, side, side), which is zero."""
        settings = self._settings
        crop = crop_window(
            box,
            image.shape[1],
            image.shape[2],
            settings.crop_size,
            context_pad=settings.context_pad,
            square=settings.square,
            mirror=flip,
        )
        cut = image[:, crop.rows, crop.columns]
        pixels = resize(cut, crop.height, crop.width)
        if flip:
            pixels = pixels[:, :, ::-1]
        rows = slice(crop.top, crop.top + crop.height)
        columns = slice(crop.left, crop.left + crop.width)
        place = out[:, rows, columns]
        if self._mean is None:
            np.copyto(place, pixels)
        else:
            whole = self._mean.shape[1] > 1
            mean = self._mean[:, rows, columns] if whole else self._mean
            np.subtract(pixels, mean, out=place)
        if settings.scale != 1:
            np.multiply(place, np.float32(settings.scale), out=place)

    def _path(self, index: int) -> Path:
        return Path(self._settings.root_folder + self._windows.images[index])

    def _read(self, index: int) -> Array:
        if self._files is None:
            return read_image(self._path(index), ColorMode.COLOR)
        return decode_image(self._files[index], ColorMode.COLOR)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: no name can be so
        why = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read ({why})") from error
