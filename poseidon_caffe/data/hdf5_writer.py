"""Rows appended to an HDF5 file that is whole whenever it is at its place."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from poseidon_caffe.data.hdf5_file import import_h5py
from poseidon_caffe.errors import DataError
from poseidon_caffe.types import Array

__all__ = ["Hdf5Writer"]


class Hdf5Writer:
    """Datasets that grow by rows.

    The first `append` replaces a file of that name.  While rows are being written the
    file has a hidden name beside its own, so nobody finds half a file; after each
    `append` it is whole, closed and at its place.

    Args:
        target: the file.

    Raises:
        DataError: the folder cannot be written in, or h5py is not installed.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        import_h5py(target)
        self._place = place = Path(target).absolute()
        if place.is_dir():
            raise DataError(f"{target}: this is a folder; name a file to write")
        if not os.access(place.parent, os.W_OK | os.X_OK):
            why = "is not writable" if place.parent.is_dir() else "does not exist"
            raise DataError(f"{target}: the folder {place.parent} {why}; make it first")
        hidden = f".{place.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp"
        self._hidden = place.with_name(hidden)
        self._begun = self._closed = False

    def append(self, arrays: Mapping[str, Array]) -> None:
        """Add rows to the datasets of these names.

        Raises:
            DataError: rows of another shape than before, or the disk refused; the file
                is removed then, with the rows before.
        """
        h5py = import_h5py(self.target)
        if self._closed:
            raise DataError(f"{self.target}: the HDF5 file is closed already")
        if self._begun:
            with contextlib.suppress(FileNotFoundError):  # somebody took it: begin anew
                self._place.rename(self._hidden)
        try:
            with h5py.File(self._hidden, "a") as file:
                for name, array in arrays.items():
                    _append(file, name, array)
            self._hidden.replace(self._place)
        except (OSError, RuntimeError, ValueError, TypeError) as error:
            self._hidden.unlink(missing_ok=True)
            raise DataError(
                f"{self.target}: writing failed ({error}); nothing is kept"
            ) from error
        self._begun = True

    def close(self) -> None:
        """Make the file durable; twice does no harm.

        Raises:
            DataError: the disk refused.
        """
        self._closed = True
        if not self._begun or not self._place.exists():
            return
        try:
            descriptor = os.open(self._place, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise DataError(f"{self.target}: writing failed ({error})") from error


def _append(file: Any, name: str, array: Array) -> None:
    rows = np.ascontiguousarray(array)
    if name not in file:
        limits = (None, *rows.shape[1:])
        file.create_dataset(name, data=rows, maxshape=limits, chunks=True)
        return
    dataset = file[name]
    if dataset.shape[1:] != rows.shape[1:]:
        raise ValueError(
            f'a row of "{name}" has the shape {rows.shape[1:]}, the rows before it '
            f"have {dataset.shape[1:]}"
        )
    before = len(dataset)
    dataset.resize(before + len(rows), axis=0)
    dataset[before:] = rows
