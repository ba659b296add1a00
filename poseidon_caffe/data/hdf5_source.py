"""Rows of a list of HDF5 files, in order or shuffled, by global record number."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from poseidon_caffe.data import draws
from poseidon_caffe.data.hdf5_file import RowFile, look_at, read_rows
from poseidon_caffe.errors import DataError
from poseidon_caffe.types import Array, Shape

__all__ = ["Hdf5Source", "read_file_list"]

_OF_FILES, _OF_ROWS = range(2)  # streams of draws


def read_file_list(path: str) -> list[str]:
    """Names in a list of files, separated by white space.

    Raises:
        DataError: the list cannot be read or is empty.
    """
    try:
        names = Path(path).read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise DataError(
            f"{path}: the list of HDF5 files cannot be read ({error}); it has one "
            "path a line"
        ) from error
    if not names:
        raise DataError(f"{path}: the list names no HDF5 file, at least 1 is needed")
    return names


@dataclass(frozen=True)
class _Epoch:
    """The files of an epoch in the order of reading.

    Attributes:
        number: of the epoch.
        files: indices of files.
        ends: how many rows the files up to each one have together.
    """

    number: int
    files: Array
    ends: Array


class Hdf5Source:
    """The rows of several files, one file after the other, over and over.

    A record number g counts on over the epochs.  Shuffled, each epoch has an order
    of files, and each file an order of rows, drawn from (key, epoch) alone: all
    workers that have the key agree, and so does a resumed run.

    Two files are in memory at most: the one being read from, and the next one, which
    a thread reads meanwhile.

    Args:
        paths: the files; all are looked at now.
        names: datasets, the same in all files.
        dtype: of the values.
        shuffle: mix files, and rows within each file.
        ahead: read the next file in a thread.

    Attributes:
        key: of the draws; see `data.draws`.
        row_shapes: shape of one row, a dataset each.

    Raises:
        DataError: see `hdf5_file.look_at`; files differ in the shape of their rows, or
            there are no rows.
    """

    def __init__(
        self,
        paths: Sequence[str],
        names: Sequence[str],
        dtype: type = np.float32,
        *,
        shuffle: bool = False,
        ahead: bool = True,
    ) -> None:
        self.key = 0
        self._names, self._dtype, self._shuffle = tuple(names), dtype, shuffle
        self._files = [look_at(path, names) for path in paths]
        self.row_shapes: tuple[Shape, ...] = self._files[0].shapes
        self._check_shapes()
        self._rows = np.array([file.rows for file in self._files], np.int64)
        self._size = int(self._rows.sum())
        if self._size == 0:
            raise DataError(f"{paths[0]}: none of the HDF5 files has a row")
        self._loaded: dict[int, Future[list[Array]]] = {}
        self._ahead = ahead
        self._pool: ThreadPoolExecutor | None = None
        self._mixed: tuple[tuple[int, int, int], Array] | None = None
        self._closed = False

    def __len__(self) -> int:
        return self._size

    def fill(self, records: range, outs: Sequence[Array]) -> None:
        """Copy rows into arrays.

        Args:
            records: global record numbers, increasing.
            outs: one array (len(records), ...) for each dataset, any strides.

        Raises:
            DataError: a file cannot be read any more.
        """
        if self._closed:
            raise DataError("the HDF5 files are closed already")
        done = 0
        while done < len(records):
            done += self._copy(records[done:], [out[done:] for out in outs])

    def close(self) -> None:
        """Drop what is in memory and end the thread; twice does no harm."""
        self._closed = True
        self._drop_but(set())
        if self._pool is not None:
            self._pool.shutdown(wait=True)
            self._pool = None

    # -- order ---------------------------------------------------------------------
    def _epoch(self, number: int) -> _Epoch:
        files = np.arange(len(self._files))
        if self._shuffle:
            key = draws.make_key(self.key, number)
            files = draws.bits(key, range(files.size), _OF_FILES).argsort(kind="stable")
        return _Epoch(number, files, self._rows[files].cumsum())

    def _row_order(self, epoch: int, file: int) -> Array:
        """Which row of a file comes when, shuffled; the last answer is kept."""
        asked = (self.key, epoch, file)
        if self._mixed is None or self._mixed[0] != asked:
            rows = range(self._files[file].rows)
            mixed = draws.bits(draws.make_key(*asked), rows, _OF_ROWS)
            self._mixed = (asked, mixed.argsort(kind="stable"))
        return self._mixed[1]

    def _following(self, epoch: _Epoch, place: int) -> int:
        """The file after the one at ``place``."""
        later = epoch.files[place + 1 :]
        later = later[self._rows[later] > 0]
        if later.size == 0:
            later = self._epoch(epoch.number + 1).files
            later = later[self._rows[later] > 0]
        return int(later[0])

    # -- values --------------------------------------------------------------------
    def _copy(self, records: range, outs: Sequence[Array]) -> int:
        """Copy those of the first records that lie in one file; how many."""
        number, place = divmod(records[0], self._size)
        epoch = self._epoch(number)
        index = int(np.searchsorted(epoch.ends, place, side="right"))
        file = int(epoch.files[index])
        end = number * self._size + int(epoch.ends[index])
        start = end - self._files[file].rows
        inside = records[: len(range(records.start, end, records.step))]
        rows = slice(inside.start - start, inside[-1] - start + 1, inside.step)
        arrays = self._arrays(file, self._following(epoch, index))
        chosen = self._row_order(number, file)[rows] if self._shuffle else rows
        for out, array in zip(outs, arrays, strict=True):
            out[: len(inside)] = array[chosen]
        return len(inside)

    def _arrays(self, file: int, following: int) -> list[Array]:
        """The datasets of a file; the following one begins to be read."""
        self._drop_but({file, following})
        self._load(file)
        if self._ahead:
            self._load(following)
        try:
            return self._loaded[file].result()
        except BaseException:
            del self._loaded[file]  # so that a further call tries again
            raise

    def _load(self, file: int) -> None:
        if file in self._loaded:
            return
        if self._ahead and len(self._files) > 1:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(1, "poseidon-hdf5")
            self._loaded[file] = self._pool.submit(self._read, file)
            return
        done: Future[list[Array]] = Future()
        done.set_result(self._read(file))
        self._loaded[file] = done

    def _read(self, file: int) -> list[Array]:
        return read_rows(self._files[file], self._names, self._dtype)

    def _drop_but(self, wanted: set[int]) -> None:
        """Forget other files, waiting for one that is being read."""
        for file in [each for each in self._loaded if each not in wanted]:
            work = self._loaded.pop(file)
            if not work.cancel():
                work.exception()

    def _check_shapes(self) -> None:
        """Rows must look alike in all files."""
        first = self._files[0]
        for file in self._files:
            _check_same(first, file, self._names)


def _check_same(first: RowFile, file: RowFile, names: Sequence[str]) -> None:
    for name, one, other in zip(names, first.shapes, file.shapes, strict=True):
        if one != other:
            raise DataError(
                f'{file.path}: rows of the dataset "{name}" have the shape {other}, '
                f"those of {first.path} have {one}; all files of a list must agree"
            )
