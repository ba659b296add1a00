"""The mean image of a database, as Caffe's compute_image_mean makes it."""

from __future__ import annotations

import numpy as np

from poseidon_caffe.data.db import Database, open_db
from poseidon_caffe.data.notes import Notes, Silent
from poseidon_caffe.data.records import decode_record
from poseidon_caffe.errors import DataError
from poseidon_caffe.schema.mean import write_mean
from poseidon_caffe.types import Array

__all__ = ["compute_image_mean"]

_REPORT_EVERY = 10000


def compute_image_mean(
    source: str, output: str = "", backend: str = "lmdb", notes: Notes | None = None
) -> Array:
    """The mean of all records of a database.

    Args:
        source: the database.
        output: the .binaryproto to write, or "" for none.
        backend: "lmdb" or "leveldb".
        notes: gets Caffe's log lines, the mean of each channel among them.

    Returns:
        float32 (C, H, W).

    Raises:
        DataError: the database cannot be read, or its images differ in size.
        SnapshotError: the disk refused.
    """
    notes = Silent() if notes is None else notes
    database = open_db(source, backend)
    try:
        notes.info("Starting iteration")
        mean = (_sum(database, notes) / len(database)).astype(np.float32)
    finally:
        database.close()
    if output:
        notes.info(f"Write to {output}")
        write_mean(output, mean)
    notes.info(f"Number of channels: {len(mean)}")
    for channel, plane in enumerate(mean):
        average = plane.mean(dtype=np.float64)
        notes.info(f"mean_value channel [{channel}]: {average:g}")
    return mean


def _sum(database: Database, notes: Notes) -> Array:
    """Sum over all records, float64 (exact for bytes)."""
    total: Array | None = None
    size = len(database)
    for index in range(size):
        image = decode_record(database, index, database.record(index))[1]
        if total is None:
            total = np.zeros(image.shape, np.float64)
        if image.shape != total.shape:
            raise DataError(
                f"{database.source}: record {index} has the shape {image.shape}, the "
                f"first one {total.shape}; convert the images with one size "
                "(resize_width, resize_height)"
            )
        total += image
        if (index + 1) % _REPORT_EVERY == 0:
            notes.info(f"Processed {index + 1} files.")
    if size % _REPORT_EVERY:
        notes.info(f"Processed {size} files.")
    assert total is not None  # an open database has records
    return total
