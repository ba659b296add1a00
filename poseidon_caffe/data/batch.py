"""Batch: memory for one batch, used again and again."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.backend.memory import empty_array, view_of
from poseidon_caffe.backend.protocols import Ops
from poseidon_caffe.types import Array, Shape

__all__ = ["Batch"]


class Batch:
    """Images and labels of one batch, float32.

    A feed calls `begin` before the batch is filled and then `send`, `prepare` and
    `send` again, or `recall`; its user calls `unload`.  Here, where kernels use the
    same memory, only that last one does something.

    Args:
        size: number of records.
        channels_last: how the images lie in memory; see `view_of`.

    Attributes:
        data: (N, C, h, w), once `shape_data` was called.
        label: (N,).
    """

    def __init__(self, size: int, *, channels_last: bool = False) -> None:
        self._channels_last = channels_last
        self._raw = empty_array(0)
        self.data: Array = self._raw
        self.label: Array = np.zeros(size, np.float32)

    def shape_data(self, shape: Shape) -> None:
        """Give every image the shape (C, h, w); memory only grows."""
        whole = (self.label.size, *shape)
        if self.data.shape == whole:
            return
        if self._raw.size < math.prod(whole):
            self._raw = empty_array(math.prod(whole))
        self.data = view_of(self._raw, whole, channels_last=self._channels_last)

    def untransformed(self, image: Array, target: Shape) -> tuple[Array, Array] | None:
        """Room for images as they are, where a device transforms them.

        Args:
            image: the first; all others have its shape and type.
            target: shape of what becomes of it.

        Returns:
            (images (N, C, H, W), places (N, 3): first row, first column, mirrored),
            to be filled; None when images go transformed into ``data``.
        """
        return None

    def begin(self) -> None:
        """Return once the batch may be filled."""

    def prepare(self) -> None:
        """Make room where the batch is sent to; in the thread that uses it."""

    def send(self) -> bool:
        """Send the batch on its way; False if there is no room now."""
        return True

    def recall(self) -> None:
        """Forget what was sent: nobody will use it."""

    def unload(self, ops: Ops, top: Sequence[Blob]) -> None:
        """Put the images into the first blob, labels into the second if there is one.

        The images' copy takes less than one percent of any net's time, and leaves
        views that a user holds of ``net.blobs["data"].data`` valid, as in Caffe.
        """
        top[0].reshape(self.data.shape)
        ops.host.copy(self.data, top[0].mutable_cpu_data)
        if len(top) > 1:
            np.copyto(top[1].mutable_cpu_data, self.label)
