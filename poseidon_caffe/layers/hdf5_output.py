"""HDF5Output: blobs written to an HDF5 file."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.data.hdf5_writer import Hdf5Writer
from poseidon_caffe.errors import DataError, LayerError
from poseidon_caffe.layers.base import Example, Layer, LayerContext
from poseidon_caffe.layers.registry import register
from poseidon_caffe.types import Shape

__all__ = ["HDF5Output"]

_NAMES = ("data", "label")
_LEGACY_AXES = 4


@register("HDF5Output")
class HDF5Output(Layer):
    """Writes two blobs to an HDF5 file, as the datasets ``data`` and ``label``.

    ``hdf5_output_param``: ``file_name``.  HDF5Data reads such files.  After each
    forward the file is whole and closed; the first one replaces an earlier file.
    With several workers each writes ``file_name_<rank>``.

    Bottoms: data and label, up to four axes, with the same batch.  Gradients are 0.

    Tops: none.

    Caffe parity: exact for one forward: four axes always, so labels of shape (N,)
    become (N, 1, 1, 1).  Unlike Caffe, which fails in the second forward because the
    datasets exist by then, each forward appends its rows.
    """

    num_bottom = 2
    num_top = 0
    works_on_host = True

    def __init__(self, param: Any, context: LayerContext) -> None:
        super().__init__(param, context)
        self._writer: Hdf5Writer | None = None

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Check that the file can be made."""
        name, shard = str(self.param.hdf5_output_param.file_name), self.context.shard
        if not name:
            problem = 'hdf5_output_param has no file: write `file_name: "PATH"`'
            raise LayerError(self.describe(problem))
        if shard.world > 1:
            name = f"{name}_{shard.rank}"
        try:
            self._writer = Hdf5Writer(name)
        except DataError as error:
            raise DataError(self.describe(str(error))) from error

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Check the shapes."""
        for blob in bottom:
            if len(blob.shape) > _LEGACY_AXES:
                problem = f"writes blobs of at most {_LEGACY_AXES} axes"
                raise self.shape_error(problem, bottom)
        if _four_axes(bottom[0].shape)[0] != _four_axes(bottom[1].shape)[0]:
            raise self.shape_error("data and label must have the same batch", bottom)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Append the batch.

        Raises:
            DataError: the disk refused.
        """
        assert self._writer is not None
        rows = {
            name: blob.cpu_data.reshape(_four_axes(blob.shape))
            for name, blob in zip(_NAMES, bottom, strict=True)
        }
        try:
            self._writer.append(rows)
        except DataError as error:
            raise DataError(self.describe(str(error))) from error

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """No gradient comes from here."""
        for blob, down in zip(bottom, propagate_down, strict=True):
            if down:
                self.ops.clear(blob.diff)

    def close(self) -> None:
        """Make the file durable."""
        if self._writer is not None:
            self._writer.close()

    @classmethod
    def examples(cls) -> list[Example]:
        """Images with labels, and rows with rows."""
        param = f'hdf5_output_param {{ file_name: "{_example_folder() / "out.h5"}" }}'
        return [
            Example(param, ((2, 3, 4, 5), (2,)), labels={1: 3}),
            Example(param, ((3, 4), (3, 2))),
        ]


def _four_axes(shape: Shape) -> Shape:
    """The shape as Caffe's num, channels, height and width."""
    return (*shape, *(1,) * (_LEGACY_AXES - len(shape)))


@functools.cache
def _example_folder() -> Path:
    """A temporary folder that lives as long as the process."""
    folder = Path(tempfile.mkdtemp(prefix="poseidon-example-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
