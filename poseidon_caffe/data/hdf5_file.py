"""Datasets of an HDF5 file as arrays of rows, as Caffe's HDF5Data reads them.

h5py is imported when a file is opened, not before.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from poseidon_caffe.errors import DataError
from poseidon_caffe.types import Array, Shape

__all__ = ["RowFile", "import_h5py", "look_at", "read_rows"]

# What h5py raises on bytes that make no sense; it is not particular.
_DAMAGE = (
    OSError,
    RuntimeError,
    LookupError,
    ValueError,
    AttributeError,
    TypeError,
    ArithmeticError,
    MemoryError,
    NotImplementedError,
    RecursionError,
)
_MOST_VALUES = 2**31 - 1  # Caffe counts a blob's values in an int
_SMALL_BYTES = 64 << 20
_BEST_COMPRESSION = 2000  # deflate reaches 1030


@dataclass(frozen=True)
class RowFile:
    """What a file holds, without its values.

    Attributes:
        path: as the list has it.
        rows: rows of every dataset.
        shapes: shape of one row, a dataset each.
    """

    path: str
    rows: int
    shapes: tuple[Shape, ...]


def import_h5py(path: str) -> Any:
    """The module h5py.

    Raises:
        DataError: it is not installed.
    """
    try:
        import h5py
    except ImportError as error:
        raise DataError(
            f"{path}: HDF5 files need the package h5py, which is not installed: "
            "pip install poseidon-caffe[hdf5]"
        ) from error
    return h5py


def look_at(path: str, names: Sequence[str]) -> RowFile:
    """Check that a file has the datasets ``names``, of one number of rows.

    Raises:
        DataError: the file is missing or damaged, a dataset is missing (the message
            names those there are), has no axis, or holds neither floats nor integers;
            or the datasets have different numbers of rows.
    """
    with _open(path) as file:
        shapes = [_checked(file, path, name).shape for name in names]
    for name, shape in zip(names, shapes, strict=True):
        if shape[0] != shapes[0][0]:
            raise DataError(
                f'{path}: the dataset "{name}" has {shape[0]} rows, "{names[0]}" has '
                f"{shapes[0][0]}; all tops need the same number of rows in a file"
            )
    rows = tuple(tuple(map(int, shape[1:])) for shape in shapes)
    return RowFile(path, int(shapes[0][0]), rows)


def read_rows(file: RowFile, names: Sequence[str], dtype: type) -> list[Array]:
    """The datasets, converted to ``dtype`` by HDF5.

    Args:
        file: from `look_at`.
        names: of the datasets.
        dtype: float32 or float64.

    Returns:
        One array (rows, ...) for each name.

    Raises:
        DataError: as `look_at`, or the file is another one since then.
    """
    arrays = []
    with _open(file.path) as opened:
        for name, shape in zip(names, file.shapes, strict=True):
            dataset = _checked(opened, file.path, name)
            if dataset.shape != (file.rows, *shape):
                raise DataError(
                    f'{file.path}: the dataset "{name}" had the shape '
                    f"{(file.rows, *shape)} when the net was built and has "
                    f"{dataset.shape} now; do not change files that are being read"
                )
            array = np.empty(dataset.shape, dtype)
            if array.size:
                dataset.read_direct(array)
            arrays.append(array)
    return arrays


@contextlib.contextmanager
def _open(path: str) -> Iterator[Any]:
    """The opened file; whatever goes wrong with its bytes is a DataError."""
    h5py = import_h5py(path)
    if not os.path.isfile(path):  # noqa: PTH113 - Path.is_file may raise
        raise DataError(
            f"{path}: no such HDF5 file; paths in a list of files count from the "
            f"folder in which poseidon is started ({Path.cwd()})"
        )
    try:
        with h5py.File(path, "r") as file:
            yield file
    except _DAMAGE as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{path}: not a readable HDF5 file, it may be damaged or cut off "
            f"({error}); make it again or copy it anew"
        ) from error


def _checked(file: Any, path: str, name: str) -> Any:
    """The dataset ``name``, whose values Caffe could read."""
    h5py = import_h5py(path)
    dataset = file.get(name)
    if not isinstance(dataset, h5py.Dataset):
        found = ", ".join(f'"{each}"' for each in file) or "none"
        raise DataError(
            f'{path}: no dataset "{name}" (tops are named after datasets); '
            f"the file has: {found}"
        )
    if not dataset.shape:
        raise DataError(f'{path}: the dataset "{name}" has no axis, so it has no rows')
    kind = dataset.id.get_type().get_class()
    if kind not in {h5py.h5t.FLOAT, h5py.h5t.INTEGER}:
        raise DataError(
            f'{path}: the dataset "{name}" holds neither floats nor integers but '
            f"{dataset.dtype}; store it as float32"
        )
    _check_size(dataset, path, name)
    return dataset


def _check_size(dataset: Any, path: str, name: str) -> None:
    """Refuse what no blob can hold, and sizes that a damaged header made up."""
    count = math.prod(dataset.shape)
    if count > _MOST_VALUES:
        raise DataError(
            f'{path}: the dataset "{name}" of shape {dataset.shape} has more than '
            f"{_MOST_VALUES} values; cut it into several files"
        )
    stored_bytes = dataset.id.get_storage_size()
    if count * dataset.dtype.itemsize > _SMALL_BYTES + _BEST_COMPRESSION * stored_bytes:
        raise DataError(
            f'{path}: the dataset "{name}" of shape {dataset.shape} stores only '
            f"{stored_bytes} bytes; the file is damaged, or was never filled"
        )
