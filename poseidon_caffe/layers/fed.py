"""FedLayer: what all layers that read records from files have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.data import draws
from poseidon_caffe.data.feed import BatchSource, Feed, FeedSettings, decoding_threads
from poseidon_caffe.data.transform import Transformer, TransformSettings
from poseidon_caffe.errors import DataError, LayerError, ParseError, ShapeError
from poseidon_caffe.layers.base import Layer
from poseidon_caffe.types import JsonObject, Phase, Shape, Shard, fnv1a

__all__ = ["RESTARTING", "SKIP_STREAM", "FedLayer", "Opened"]

RESTARTING = "Restarting data prefetching from start."
"""Caffe's log line at the end of an epoch (data_layer.cpp)."""

SKIP_STREAM = 3
"""The stream of draws that rand_skip takes; the transformer has 0 to 2."""


class Opened(NamedTuple):
    """What a type opened in its `FedLayer.open_source`.

    Attributes:
        source: the records; closed with the layer.
        image_shape: (C, h, w) of the first image of the first batch.
        batch_size: records of a batch; at least 1.
        first_record: where the first epoch starts (rand_skip).
        threads: that read ahead; 0 for as many as decoding images gets.
    """

    source: BatchSource
    image_shape: Shape
    batch_size: int
    first_record: int = 0
    threads: int = 0


class FedLayer(Layer):
    """Batches of a `BatchSource`: read ahead, dealt to workers, resumable.

    A type gives `open_source` and, if it draws from the key by other objects than
    its `transformer`, `rekey`.

    Attributes:
        transformer: mean, scale, crop and mirror, made before `open_source`.
    """

    num_bottom = 0
    #: Whether the records come in epochs, whose ends are noted.
    has_epochs: ClassVar[bool] = True

    def __init__(self, param: Any, context: Any) -> None:
        self._note: Callable[[str], None] | None = None
        self._said: list[str] = []
        super().__init__(param, context)
        self._feed: Feed | None = None
        self._seed: int = self.context.seed
        # The positions in sources of their own have nothing to do with each other.
        self.state_is_shared = self.source_is_shared

    # -- what a type fills in ----------------------------------------------------
    def open_source(self) -> Opened:
        """Open the files; errors need not name the layer."""
        raise LayerError("this layer type opens nothing")

    @property
    def source_is_shared(self) -> bool:
        """Whether all workers read the same files."""
        return True

    def rekey(self, key: int) -> None:
        """Draw by ``key`` from now on (after a resume)."""
        self.transformer.key = key

    # -- the layer contract -------------------------------------------------------
    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Open the source and shape the tops from its first record."""
        try:
            self._open(top)
        except (DataError, LayerError, ShapeError) as error:
            raise type(error)(self.describe(str(error))) from error
        except ParseError as error:  # of a list, or of the mean
            told = self.describe(str(error))
            raise ParseError(told, path=error.path, line=error.line) from error

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Nothing: the records decide, in `setup` and `forward`."""

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Put the next batch into the tops (the feed has it ready)."""
        assert self._feed is not None
        try:
            batch = self._feed.next()
        except (DataError, ShapeError) as error:
            raise type(error)(self.describe(str(error))) from error
        batch.unload(self.ops, top)
        for blob in top:
            blob.touch()
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
        self.rekey(self.key())
        self._feed.restore_state(state)  # drops what was drawn ahead

    def skip_batch(self) -> None:
        """Move on by one batch that another worker reads, in the shared source."""
        assert self._feed is not None
        self._feed.skip()

    def close(self) -> None:
        """Stop reading ahead and close the source."""
        if self._feed is not None:
            self._feed.close()

    # -- lines for the log -----------------------------------------------------------
    # A property, so that lines of `setup` wait for whoever will write the log.
    @property
    def note(self) -> Callable[[str], None] | None:
        """Gets Caffe's log lines, those of `setup` once it is set."""
        return self._note

    @note.setter
    def note(self, note: Callable[[str], None] | None) -> None:
        self._note = note
        if note is not None:
            said, self._said = self._said, []
            for line in said:
                note(line)

    def say(self, line: str) -> None:
        """Put a line into the log, now or when there is one."""
        if self._note is not None:
            self._note(line)
        else:
            self._said.append(line)

    # -- help for types ------------------------------------------------------------
    def key(self) -> int:
        """Key of the draws; workers differ where each has a source of its own."""
        worker = 0 if self.source_is_shared else self.context.shard.rank
        return draws.make_key(self._seed, fnv1a(self.name), worker)

    def own_name(self, source: str, what: str) -> str:
        """``source``, or ``source_<rank>`` where each worker has one of its own.

        Raises:
            LayerError: there is no source.
        """
        if not source:
            raise LayerError(f'{what} has no source: write `source: "PATH"`')
        rank = self.context.shard.rank
        return source if self.source_is_shared else f"{source}_{rank}"

    def drawn_skip(self, rand_skip: int) -> int:
        """The record to start at, below ``rand_skip`` unless that is 0."""
        if not rand_skip:
            return 0
        return int(draws.below(rand_skip, self.key(), [0], SKIP_STREAM)[0])

    # -- opening -----------------------------------------------------------------
    def _open(self, top: Sequence[Blob]) -> None:
        # Nothing is open yet when these settings are refused.
        settings = TransformSettings.from_message(self.param.transform_param)
        self.transformer = Transformer(settings, Phase(self.phase), self.key())
        opened = self.open_source()
        try:
            self._feed = Feed(opened.source, self._feed_settings(opened, top[0]))
        except BaseException:
            opened.source.close()
            raise
        if self.has_epochs:
            self._feed.on_restart = self._restarting
        if self.source_is_shared:
            self.record_count = self._feed.record_count
        top[0].reshape((opened.batch_size, *opened.image_shape))
        if len(top) > 1:
            top[1].reshape((opened.batch_size,))

    def _feed_settings(self, opened: Opened, data: Blob) -> FeedSettings:
        # Caffe: all such layers take ``data_param { prefetch }``.
        param = self.param.data_param
        threads = opened.threads or decoding_threads()
        ahead = param.prefetch if param.HasField("prefetch") else threads + 1
        ahead = ahead if self.context.prefetch else 0
        return FeedSettings(
            batch_size=opened.batch_size,
            shard=self.context.shard if self.source_is_shared else Shard(),
            first_record=opened.first_record,
            prefetch=ahead,
            threads=threads,
            channels_last=_wants_channels_last(data),
            stage=self.ops.stage(self.transformer.rule, ahead),
        )

    def _restarting(self) -> None:
        if self._note is not None:
            self._note(RESTARTING)


def _wants_channels_last(blob: Blob) -> bool:
    """Whether ``blob`` will store images channels-last once it has four axes."""
    shape = blob.shape
    blob.reshape((1, 1, 1, 1))
    answer = blob.channels_last
    blob.reshape(shape)
    return answer
