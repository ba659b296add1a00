"""Image files to a database of Datums, as Caffe's convert_imageset makes it."""

from __future__ import annotations

import itertools
import os
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poseidon_caffe.data.datum import array_to_datum, encoded_datum
from poseidon_caffe.data.db import create_db
from poseidon_caffe.data.image import ColorMode, read_image
from poseidon_caffe.data.notes import Notes, Silent
from poseidon_caffe.data.resize import resize
from poseidon_caffe.errors import DataError, ParseError

__all__ = ["ImageSetSettings", "ListedImage", "convert_imageset", "read_list"]

_REPORT_EVERY = 1000
_JPEG = frozenset({"jpg", "jpeg"})


@dataclass(frozen=True)
class ImageSetSettings:
    """What to convert, and how; the fields are Caffe's arguments and flags.

    Attributes:
        root_folder: put before each path of the list as it is (so it ends in "/").
        list_file: lines of a path, a blank and an integer label.
        db_name: the database to make; must not exist.
        gray: one channel instead of three.
        shuffle: mix the order of the records.
        backend: "lmdb" or "leveldb".
        resize_width, resize_height: size of every image; 0 keeps it.
        check_size: refuse images of different sizes.
        encoded: store compressed images.
        encode_type: compress as this ("png", "jpg"); implies ``encoded``.
        seed: of the shuffling; None mixes differently each time.
    """

    root_folder: str
    list_file: str
    db_name: str
    gray: bool = False
    shuffle: bool = False
    backend: str = "lmdb"
    resize_width: int = 0
    resize_height: int = 0
    check_size: bool = False
    encoded: bool = False
    encode_type: str = ""
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class ListedImage:
    """A line of a list file, and its number there."""

    path: str
    label: int
    line: int


def convert_imageset(settings: ImageSetSettings, notes: Notes | None = None) -> int:
    """Make the database, whole or not at all.

    Images that cannot be read are left out with an error note, as Caffe does; the
    numbers in the keys ("00000012_path") count them nevertheless.

    Returns:
        Number of records written.

    Raises:
        DataError: the database exists already, or sizes differ under check_size.
        ParseError: a line of the list has no label.
    """
    notes = Silent() if notes is None else notes
    images = read_list(settings.list_file)
    if settings.shuffle:
        notes.info("Shuffling data")
        random.Random(settings.seed).shuffle(images)
    notes.info(f"A total of {len(images)} images.")
    if settings.encode_type and not settings.encoded:
        notes.info("encode_type specified, assuming encoded=true.")
    count = 0
    size = _SizeCheck(enabled=settings.check_size)
    with create_db(settings.db_name, settings.backend) as writer:
        for index, image, datum in _records(images, settings, notes):
            size.check(image, datum)
            key = f"{index:08d}_{image.path}".encode()
            writer.put(key, datum.SerializeToString())
            count += 1
            if count % _REPORT_EVERY == 0:
                notes.info(f"Processed {count} files.")
        if count == 0:
            raise DataError(
                f"{settings.list_file}: none of its {len(images)} images could be read "
                f'under the folder "{settings.root_folder}"; no database was made'
            )
    if count % _REPORT_EVERY:
        notes.info(f"Processed {count} files.")
    return count


def read_list(path: str) -> list[ListedImage]:
    """The lines of a list file; the label follows the last blank.

    Raises:
        ParseError: the file cannot be read, is empty, or a line has no label.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:  # no text, or no possible name
        raise ParseError(
            f"{path}: the list of images cannot be read ({error})", path=path
        ) from error
    images = [
        _listed(path, number, line)
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]
    if not images:
        raise ParseError(f"{path}: the list of images is empty", path=path)
    return images


def _listed(path: str, number: int, line: str) -> ListedImage:
    name, _, label = line.rstrip().rpartition(" ")
    try:
        if not name:
            raise ValueError(label)
        return ListedImage(name, int(label), number)
    except ValueError:
        raise ParseError(
            f'{path}:{number}: expected "PATH LABEL" with an integer label, '
            f'received "{line}"',
            path=path,
            line=number,
        ) from None


class _SizeCheck:
    """check_size: every Datum must hold as many bytes as the first."""

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled
        self._size = -1

    def check(self, image: ListedImage, datum: Any) -> None:
        """Raise DataError for a Datum of another size."""
        if not self._enabled:
            return
        if self._size < 0:
            self._size = len(datum.data)
        if len(datum.data) != self._size:
            raise DataError(
                f"{image.path}: {len(datum.data)} bytes of data, the first image has "
                f"{self._size} (check_size); give resize_width and resize_height"
            )


# -- reading ahead in threads -------------------------------------------------------
def _records(
    images: list[ListedImage], settings: ImageSetSettings, notes: Notes
) -> Iterator[tuple[int, ListedImage, Any]]:
    """(number, line, Datum) of every readable image, in order."""

    def work(image: ListedImage) -> Any:
        return _read(image, settings, notes)

    threads = os.cpu_count() or 1
    with ThreadPoolExecutor(threads, "poseidon-convert") as pool:
        results = _in_order(pool, work, images, ahead=4 * threads)
        for index, (image, result) in enumerate(zip(images, results, strict=True)):
            try:
                yield index, image, result.result()
            except _Unreadable as error:
                notes.error(f"Could not open or find file {error}")


def _in_order(
    pool: ThreadPoolExecutor,
    work: Callable[[ListedImage], Any],
    images: Iterable[ListedImage],
    ahead: int,
) -> Iterator[Future[Any]]:
    """Futures in the order of ``images``, ``ahead`` of them in work at a time."""
    todo = iter(images)
    waiting = deque(pool.submit(work, image) for image in itertools.islice(todo, ahead))
    try:
        while waiting:
            yield waiting.popleft()
            waiting.extend(
                pool.submit(work, image) for image in itertools.islice(todo, 1)
            )
    finally:
        for future in waiting:
            future.cancel()


class _Unreadable(DataError):
    """An image that is left out."""


def _read(image: ListedImage, settings: ImageSetSettings, notes: Notes) -> Any:
    """The Datum of one image file."""
    path = Path(settings.root_folder + image.path)
    encoding = settings.encode_type
    if settings.encoded and not encoding:
        encoding = path.suffix.removeprefix(".").lower()
        if not encoding:
            notes.warning(f"Failed to guess the encoding of '{image.path}'")
    mode = ColorMode.GRAY if settings.gray else ColorMode.COLOR
    try:
        pixels = read_image(path, mode)
        wanted = (settings.resize_height, settings.resize_width)
        if not encoding:
            if all(wanted):
                pixels = resize(pixels, *wanted)
            return array_to_datum(pixels, image.label)
        # A file of that kind is taken as it is (by Caffe's rule even with gray).
        if not any(wanted) and _same_kind(path, encoding):
            return encoded_datum(path.read_bytes(), image.label)
    except (DataError, OSError) as error:
        raise _Unreadable(str(error)) from error
    if all(wanted):
        pixels = resize(pixels, *wanted)
    return encoded_datum(pixels, image.label, encoding)


def _same_kind(path: Path, encoding: str) -> bool:
    extension = path.suffix.removeprefix(".").lower()
    return extension == encoding or {extension, encoding} <= _JPEG
