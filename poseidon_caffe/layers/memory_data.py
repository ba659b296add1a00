"""MemoryData: batches from arrays that a script hands over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.data import draws
from poseidon_caffe.data.datum import decode
from poseidon_caffe.data.host_tops import HostTops
from poseidon_caffe.data.image import ColorMode
from poseidon_caffe.data.transform import Transformer, TransformSettings
from poseidon_caffe.errors import DataError, LayerError, ShapeError
from poseidon_caffe.layers.base import Example, Layer, LayerContext
from poseidon_caffe.layers.registry import register
from poseidon_caffe.types import Array, JsonObject, Phase, Shape, fnv1a

__all__ = ["MemoryData"]


@register("MemoryData")
class MemoryData(Layer):
    """Steps through arrays in memory, batch by batch, and around at their end.

    ``memory_data_param``: ``batch_size``, ``channels``, ``height`` and ``width``, all
    needed.  Data comes from ``net.set_input_arrays(data, labels)`` (`reset`), as it
    is; or from Datums (`add_datums`), which ``transform_param`` transforms.

    Bottoms: none.

    Tops: data (batch_size, channels, height, width); label (batch_size,) until the
    first forward, then (batch_size, 1, 1, 1).

    Caffe parity: exact, label shapes included; Caffe's random crops and mirrors are
    drawn by another generator.  As in Caffe, arrays are not copied: what the script
    writes into them later is seen by later batches.

    Attributes:
        batch_size: see `set_batch_size`.
        image_shape: (channels, height, width).
    """

    num_bottom = 0
    num_top = 2

    def __init__(self, param: Any, context: LayerContext) -> None:
        super().__init__(param, context)
        p = self.param.memory_data_param
        self.batch_size = int(p.batch_size)
        self.image_shape: Shape = (int(p.channels), int(p.height), int(p.width))
        self._tops = HostTops(self.ops)
        self._data: Array | None = None
        self._labels: Array = np.zeros(0, np.float32)
        self._place = 0
        self._added = 0  # Datums since the net was built, for the random draws
        self._has_new_data = False

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Shape the tops."""
        if self.batch_size * min(self.image_shape) <= 0:
            problem = (
                "batch_size, channels, height and width must all be given in "
                "memory_data_param, and be positive"
            )
            raise LayerError(self.describe(problem))
        try:
            settings = TransformSettings.from_message(self.param.transform_param)
            key = draws.make_key(self.context.seed, fnv1a(self.name))
            self._transformer = Transformer(settings, Phase(self.phase), key)
        except LayerError as error:
            raise LayerError(self.describe(str(error))) from error
        top[0].reshape((self.batch_size, *self.image_shape))
        top[1].reshape((self.batch_size,))

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Nothing: `setup` and `forward` shape the tops."""

    def reset(self, data: Array, labels: Array) -> None:
        """Take other data, from its first batch on.

        Args:
            data: float32 (n, channels, height, width), C-contiguous, n a multiple of
                the batch size; kept, not copied.
            labels: float32 (n,) or (n, 1, 1, 1), C-contiguous; kept likewise.

        Raises:
            ShapeError: shapes that do not fit.
            DataError: not contiguous, or of another dtype.
        """
        self._check_array(data, "data", self.image_shape)
        per_label = labels.shape[1:] if labels.ndim == 1 else (1, 1, 1)
        self._check_array(labels, "labels", per_label)
        if len(data) != len(labels):
            problem = f"{len(data)} data for {len(labels)} labels; give one each"
            raise ShapeError(self.describe(problem))
        self._check_count(len(data), "data")
        if self.param.HasField("transform_param") and self.note is not None:
            self.note(f"{self.type} does not transform array data on Reset()")
        self._data, self._labels, self._place = data, labels.reshape(-1), 0

    def add_datums(self, datums: Sequence[Any]) -> None:
        """Take the transformed images and labels of Datums.

        Args:
            datums: a multiple of the batch size.

        Raises:
            DataError: the data before is not consumed yet, or a Datum is damaged.
            ShapeError: a wrong number of Datums, or images of another size.
        """
        if self._has_new_data:
            problem = "data cannot be added until the data before has been consumed"
            raise DataError(self.describe(problem))
        self._check_count(len(datums), "Datums")
        settings = self._transformer.settings
        mode = ColorMode.GRAY if settings.force_gray else ColorMode.NATIVE
        mode = ColorMode.COLOR if settings.force_color else mode
        records = range(self._added, self._added + len(datums))
        out = np.empty((len(datums), *self.image_shape), np.float32)
        try:
            images = [decode(datum, mode) for datum in datums]
            shapes = {self._transformer.output_shape(image.shape) for image in images}
            if shapes != {self.image_shape}:
                problem = f"images become {sorted(shapes)}, not {self.image_shape}"
                raise ShapeError(problem)
            self._transformer.apply(images, records, out)
        except (DataError, ShapeError) as error:
            raise type(error)(self.describe(str(error))) from error
        self._added += len(datums)
        self._data, self._place, self._has_new_data = out, 0, True
        self._labels = np.array([datum.label for datum in datums], np.float32)

    def set_batch_size(self, size: int) -> None:
        """Another batch size from the next forward on.

        Raises:
            DataError: added Datums are not consumed yet, or ``size`` is not positive,
                or the present data is no multiple of it.
        """
        if self._has_new_data:
            problem = "batch_size cannot change until the data has been consumed"
            raise DataError(self.describe(problem))
        if size <= 0:
            raise DataError(self.describe(f"batch_size must be positive, not {size}"))
        self.batch_size = size

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Copy the next batch into the tops.

        Raises:
            DataError: there is no data yet.
        """
        if self._data is None:
            problem = (
                "has no data yet: call net.set_input_arrays(data, labels) before "
                "the first forward"
            )
            raise DataError(self.describe(problem))
        # The batch size may have changed since the data came.
        self._check_count(len(self._data), "data")
        rows = slice(self._place, self._place + self.batch_size)
        if rows.stop > len(self._data):
            problem = f"batch_size changed at row {self._place}; set the data anew"
            raise DataError(self.describe(problem))
        top[0].reshape((self.batch_size, *self.image_shape))
        top[1].reshape((self.batch_size, 1, 1, 1))
        data, labels = self._tops.arrays(top)
        self.ops.host.copy(self._data[rows], data)
        labels[...] = self._labels[rows].reshape(-1, 1, 1, 1)
        self._tops.send(top)
        self._place = rows.stop % len(self._data)
        if self._place == 0:
            self._has_new_data = False

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """Nothing: there is no bottom."""

    def state(self) -> JsonObject:
        """The next row, and how many Datums were added, which the draws count by."""
        return {"place": self._place, "added": self._added}

    def restore_state(self, state: JsonObject) -> None:
        """Go on from there in the data, which the script has set again before."""
        self._added = int(state.get("added", 0))
        self._place = int(state.get("place", 0))

    def close(self) -> None:
        """Wait for copies under way."""
        self._tops.close()

    @classmethod
    def examples(cls) -> list[Example]:
        """Small images; the contract suite sets the data by `reset`."""
        size = "batch_size: 2 channels: 3 height: 4 width: 5"
        param = f"memory_data_param {{ {size} }}"
        # The label takes its four axes in the first forward.
        return [Example(param, (), 2, check_gradient=False, stochastic=True)]

    def _check_array(self, array: Array, what: str, shape: Shape) -> None:
        """Raise unless C-contiguous float32 of shape (n, ``shape``...)."""
        if array.shape[1:] != shape or array.ndim == 0:
            problem = f"{what} has the shape {array.shape}, needed is {('n', *shape)}"
            raise ShapeError(self.describe(problem))
        if array.dtype != np.float32 or not array.flags.c_contiguous:
            layout = "" if array.flags.c_contiguous else " with other strides"
            problem = (
                f"{what} must be float32 and C-contiguous, not {array.dtype}{layout}: "
                "give np.ascontiguousarray(array, np.float32)"
            )
            raise DataError(self.describe(problem))

    def _check_count(self, count: int, what: str) -> None:
        if count == 0 or count % self.batch_size:
            problem = f"{count} {what}: needed is a multiple of {self.batch_size}"
            raise ShapeError(self.describe(f"{problem}, the batch size"))
