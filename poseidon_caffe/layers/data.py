"""Data: batches from an LMDB or LevelDB of Datums."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.data import draws
from poseidon_caffe.data.datum import array_to_datum
from poseidon_caffe.data.db import create_db, open_db
from poseidon_caffe.data.feed import Feed, FeedSettings, decoding_threads
from poseidon_caffe.data.records import DatumSource
from poseidon_caffe.data.transform import Transformer, TransformSettings
from poseidon_caffe.errors import DataError, LayerError, ShapeError
from poseidon_caffe.layers.base import Example, Layer
from poseidon_caffe.layers.registry import register
from poseidon_caffe.schema.messages import enum_name
from poseidon_caffe.types import JsonObject, Phase, Shard, fnv1a

__all__ = ["RESTARTING", "Data"]

RESTARTING = "Restarting data prefetching from start."
"""Caffe's log line at the end of an epoch (data_layer.cpp)."""

_SKIP = 3  # the stream of draws that rand_skip takes; the transformer has 0 to 2


@register("Data")
class Data(Layer):
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

    num_bottom = 0
    min_top = 1
    max_top = 2

    def __init__(self, param: Any, context: Any) -> None:
        super().__init__(param, context)
        self._feed: Feed | None = None
        self._seed: int = self.context.seed
        # The positions in sources of their own have nothing to do with each other.
        self.state_is_shared = bool(self.param.data_param.shared_file_system)

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Open the database and shape the tops from its first record."""
        try:
            self._open(top)
        except (DataError, LayerError) as error:
            raise type(error)(self.describe(str(error))) from error

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Nothing: the records decide, in `setup` and `forward`."""

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Copy the next batch into the tops (the feed has it ready).

        The copy takes less than one percent of any net's time, and leaves views
        that a user holds of ``net.blobs["data"].data`` valid, as in Caffe.
        """
        assert self._feed is not None
        try:
            batch = self._feed.next()
        except (DataError, ShapeError) as error:
            raise type(error)(self.describe(str(error))) from error
        top[0].reshape(batch.data.shape)
        self.ops.copy(batch.data, top[0].data)
        top[0].touch()
        if len(top) > 1:
            np.copyto(top[1].data, batch.label)
            top[1].touch()
        self._feed.release()

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """Nothing: there is no bottom."""

    def state(self) -> JsonObject:
        """The global number of the next record, and the seed of the draws."""
        if self._feed is None:
            return {}
        return {**self._feed.state(), "seed": self._seed}

    def restore_state(self, state: JsonObject) -> None:
        """Go on from there."""
        assert self._feed is not None
        # Without ``random_seed`` this run's own seed is another one.
        self._seed = int(state.get("seed", self._seed))
        self._transformer.key = self._key()
        self._feed.restore_state(state)  # drops what was drawn ahead

    def skip_batch(self) -> None:
        """Move on by one batch that another worker reads, in the shared source."""
        assert self._feed is not None
        self._feed.skip()

    def close(self) -> None:
        """Stop reading ahead and close the database."""
        if self._feed is not None:
            self._feed.close()

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

    # -- opening -----------------------------------------------------------------
    def _open(self, top: Sequence[Blob]) -> None:
        param = self.param.data_param
        # Nothing is open yet when these settings are refused.
        self._transformer = transformer = Transformer(
            TransformSettings.from_message(self.param.transform_param),
            Phase(self.phase),
            self._key(),
        )
        if param.batch_size == 0:
            raise LayerError("batch_size must be at least 1")
        database = open_db(self._source_name(), enum_name(param, "backend"))
        try:
            source = DatumSource(
                database, transformer, force_color=param.force_encoded_color
            )
        except BaseException:
            database.close()
            raise
        settings = self._feed_settings(source, top)
        self._feed = Feed(source, settings)
        self._feed.on_restart = self._restarting
        if param.shared_file_system:
            self.record_count = self._feed.record_count
        top[0].reshape((settings.batch_size, *source.image_shape))
        if len(top) > 1:
            top[1].reshape((settings.batch_size,))

    def _source_name(self) -> str:
        param = self.param.data_param
        if not param.source:
            raise LayerError('data_param has no source: write `source: "PATH"`')
        rank = self.context.shard.rank
        return param.source if param.shared_file_system else f"{param.source}_{rank}"

    def _key(self) -> int:
        """Key of the draws; workers differ where each has a source of its own."""
        own = not self.param.data_param.shared_file_system
        worker = self.context.shard.rank if own else 0
        return draws.make_key(self._seed, fnv1a(self.name), worker)

    def _feed_settings(self, source: DatumSource, top: Sequence[Blob]) -> FeedSettings:
        param = self.param.data_param
        threads = param.threads or (decoding_threads() if source.encoded else 1)
        ahead = param.prefetch if param.HasField("prefetch") else threads + 1
        skip = 0
        if param.rand_skip:
            skip = int(draws.below(param.rand_skip, self._key(), [0], _SKIP)[0])
        return FeedSettings(
            batch_size=param.batch_size,
            shard=self.context.shard if param.shared_file_system else Shard(),
            first_record=skip,
            prefetch=ahead if self.context.prefetch else 0,
            threads=threads,
            channels_last=_wants_channels_last(top[0]),
        )

    def _restarting(self) -> None:
        if self.note is not None:
            self.note(RESTARTING)


def _wants_channels_last(blob: Blob) -> bool:
    """Whether ``blob`` will store images channels-last once it has four axes."""
    shape = blob.shape
    blob.reshape((1, 1, 1, 1))
    answer = blob.channels_last
    blob.reshape(shape)
    return answer


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
