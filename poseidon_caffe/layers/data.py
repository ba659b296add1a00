"""Data: batches from an LMDB or LevelDB of Datums."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

import numpy as np

from poseidon_caffe.data.datum import array_to_datum
from poseidon_caffe.data.db import create_db, open_db
from poseidon_caffe.data.records import DatumSource
from poseidon_caffe.errors import LayerError
from poseidon_caffe.layers.base import Example
from poseidon_caffe.layers.fed import RESTARTING, FedLayer, Opened
from poseidon_caffe.layers.registry import register
from poseidon_caffe.schema.messages import enum_name

__all__ = ["RESTARTING", "Data"]


@register("Data")
class Data(FedLayer):
    """Reads records of a database, transforms them, and makes them batches.

    Tops: data (batch_size, C, H, W), after cropping; label (batch_size,) if there
    is a second top.  One worker of N takes every N-th record, or in tests every N-th
    batch (`data.feed`); with ``shared_file_system: false`` it reads all of
    ``source_<rank>`` instead.

    Caffe parity: exact values; crops, mirrors and ``rand_skip`` are drawn by another
    generator.  Unlike Caffe's, the position and the draws survive a resume.

    Attributes:
        note: gets Caffe's log line whenever the records start over.
    """

    min_top = 1
    max_top = 2

    @property
    def source_is_shared(self) -> bool:
        """Whether all workers read one database (``shared_file_system``)."""
        return bool(self.param.data_param.shared_file_system)

    def open_source(self) -> Opened:
        """The database, and its first record."""
        param = self.param.data_param
        if param.batch_size == 0:
            raise LayerError("batch_size must be at least 1")
        name = self.own_name(param.source, "data_param")
        database = open_db(name, enum_name(param, "backend"))
        try:
            source = DatumSource(
                database, self.transformer, force_color=param.force_encoded_color
            )
        except BaseException:
            database.close()
            raise
        return Opened(
            source,
            source.image_shape,
            batch_size=param.batch_size,
            first_record=self.drawn_skip(param.rand_skip),
            threads=param.threads or (0 if source.encoded else 1),
        )

    @classmethod
    def examples(cls) -> list[Example]:
        """A small LMDB, whole images and random crops."""
        where = f'source: "{_example_lmdb()}" backend: LMDB'
        source = f"data_param {{ {where} batch_size: 3 }}"
        crop = "transform_param { crop_size: 4 mirror: true mean_value: 9 } "
        return [
            Example(source, bottoms=(), num_top=2, stochastic=True),
            Example(crop + source, bottoms=(), num_top=1, stochastic=True),
        ]


@functools.cache
def _example_lmdb() -> Path:
    """Five coloured records in a temporary LMDB that lives as long as the process."""
    folder = Path(tempfile.mkdtemp(prefix="poseidon-example-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with create_db(str(folder / "lmdb")) as writer:
        for i in range(5):
            image = (np.arange(3 * 6 * 7) * (i + 1) % 251).astype(np.uint8)
            datum = array_to_datum(image.reshape(3, 6, 7), i)
            writer.put(b"%08d" % i, datum.SerializeToString())
    return folder / "lmdb"
