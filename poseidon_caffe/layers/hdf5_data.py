"""HDF5Data: batches from a list of HDF5 files."""

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
from poseidon_caffe.data.hdf5_file import import_h5py
from poseidon_caffe.data.hdf5_source import Hdf5Source, read_file_list
from poseidon_caffe.data.host_tops import HostTops
from poseidon_caffe.errors import DataError, LayerError
from poseidon_caffe.layers.base import Example, Layer, LayerContext
from poseidon_caffe.layers.registry import register
from poseidon_caffe.types import JsonObject, Shard, fnv1a

__all__ = ["HDF5Data"]


@register("HDF5Data")
class HDF5Data(Layer):
    """Reads rows of HDF5 datasets, which may be of any rank and number.

    ``hdf5_data_param``: ``source`` is a text file of HDF5 paths, which count from the
    folder in which the program is started; ``batch_size`` rows make a batch, which
    goes on over the ends of files and of the list; ``shuffle`` (default false) mixes
    the files, and the rows within each file, anew in every epoch.  Files may have
    different numbers of rows; in one file all datasets have the same.

    Bottoms: none.

    Tops: one or more, each named after a dataset: (batch_size, ...) with the axes of
    the dataset after the first.  Floats and integers of any width are converted.

    One worker of N takes every N-th row, or in tests every N-th batch; with
    ``shared_file_system: false`` it reads all of the list ``source_<rank>`` instead.

    Caffe parity: exact values and order; shuffling draws from another generator, and
    the position survives a resume.  As in Caffe, ``transform_param`` is refused, and
    booleans and strings are no data.  Unlike Caffe, which opens a file when its turn
    comes, all files are looked at when the net is built, and rows must have one shape
    in all of them.
    """

    num_bottom = 0
    min_top = 1

    def __init__(self, param: Any, context: LayerContext) -> None:
        super().__init__(param, context)
        self._source: Hdf5Source | None = None
        self._tops = HostTops(self.ops)
        self._seed: int = context.seed
        self._next = 0
        self.state_is_shared = bool(param.hdf5_data_param.shared_file_system)
        self._shard = context.shard if self.state_is_shared else Shard()

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Look at all files and shape the tops."""
        p = self.param.hdf5_data_param
        if self.param.HasField("transform_param"):
            problem = "does not transform data: take transform_param away"
            raise LayerError(self.describe(problem))
        if p.batch_size == 0:
            raise LayerError(self.describe("batch_size must be at least 1"))
        try:
            self._source = Hdf5Source(
                read_file_list(self._list_name()),
                list(self.param.top),
                self.context.dtype,
                shuffle=p.shuffle,
                ahead=self.context.prefetch,
            )
        except DataError as error:
            raise DataError(self.describe(str(error))) from error
        self._source.key = self._key()
        if self.state_is_shared:
            self.record_count = len(self._source)
        self._shape(top)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Nothing: the files decide, in `setup`."""

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Copy the next rows into the tops.

        Raises:
            DataError: a file cannot be read; the position stays.
        """
        assert self._source is not None
        self._shape(top)
        size, shard = self.param.hdf5_data_param.batch_size, self._shard
        start, step = self._next + shard.rank, shard.world
        if shard.by_batch:
            start, step = self._next, 1
        try:
            records = range(start, start + size * step, step)
            self._source.fill(records, self._tops.arrays(top))
        except DataError as error:
            raise DataError(self.describe(str(error))) from error
        self._tops.send(top)
        self._next += size * step

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """Nothing: there is no bottom."""

    def state(self) -> JsonObject:
        """The global number of the next row, and the seed of the shuffling."""
        return {"next_record": self._next, "seed": self._seed}

    def restore_state(self, state: JsonObject) -> None:
        """Go on from there, with any number of workers.

        Raises:
            DataError: the state is not one of this layer.
        """
        place = state.get("next_record")
        if not isinstance(place, int) or place < 0:
            raise DataError(self.describe(f"{state} is not a position in a list"))
        self._next = place
        # Without ``random_seed`` this run's own seed is another one.
        self._seed = int(state.get("seed", self._seed))
        if self._source is not None:
            self._source.key = self._key()

    def skip_batch(self) -> None:
        """Move on by one batch that another worker reads, in the shared files."""
        if self._shard.by_batch:
            self._next += self.param.hdf5_data_param.batch_size

    def close(self) -> None:
        """Drop the files."""
        self._tops.close()
        if self._source is not None:
            self._source.close()

    @classmethod
    def examples(cls) -> list[Example]:
        """Two small files with three datasets, in order and shuffled."""
        source = f'source: "{_example_list()}" batch_size: 4'
        return [
            Example(f"hdf5_data_param {{ {source} }}", (), 3),
            Example(
                f"hdf5_data_param {{ {source} shuffle: true }}", (), 2, stochastic=True
            ),
        ]

    def _list_name(self) -> str:
        source = str(self.param.hdf5_data_param.source)
        if not source:
            problem = 'hdf5_data_param has no source: write `source: "LIST"`'
            raise LayerError(self.describe(problem))
        own = f"{source}_{self.context.shard.rank}"
        return source if self.state_is_shared else own

    def _key(self) -> int:
        """Key of the shuffling; workers differ where each has a list of its own."""
        worker = 0 if self.state_is_shared else self.context.shard.rank
        return draws.make_key(self._seed, fnv1a(self.name), worker)

    def _shape(self, top: Sequence[Blob]) -> None:
        assert self._source is not None
        size = self.param.hdf5_data_param.batch_size
        for blob, shape in zip(top, self._source.row_shapes, strict=True):
            blob.reshape((size, *shape))


@functools.cache
def _example_list() -> Path:
    """A list of two temporary files that live as long as the process."""
    folder = Path(tempfile.mkdtemp(prefix="poseidon-example-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    h5py = import_h5py("an example")
    paths = [folder / f"part{i}.h5" for i in range(2)]
    for i, path in enumerate(paths):
        rows = 3 + 2 * i
        with h5py.File(path, "w") as file:
            values = np.arange(rows * 24.0).reshape(rows, 2, 3, 4)
            file["t0"] = (values + i).astype(np.float32)
            file["t1"] = np.arange(rows)
            file["t2"] = values[:, 0, 0] / 7
    listed = folder / "list.txt"
    listed.write_text("".join(f"{path}\n" for path in paths))
    return listed
