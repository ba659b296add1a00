"""StagedBatch: a batch in memory that a device copies from by itself."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.backend.parcel import (
    Parcel,
    head_bytes,
    labels_in,
    places_in,
)
from poseidon_caffe.backend.protocols import Delivery, Ops, Stage
from poseidon_caffe.data.batch import Batch
from poseidon_caffe.types import Array, Shape

__all__ = ["StagedBatch"]

_MOST_TIMES = 2
"""What images as they are may take of the memory that they take transformed."""


class StagedBatch(Batch):
    """A batch that goes to a device, where images of one size are transformed.

    Labels, places of crops and images lie in one piece of pinned memory, so that one
    copy takes all.

    Args:
        size: number of records.
        stage: where it is sent to.
        channels_last: how transformed images lie in memory.

    Attributes:
        data: transformed images, once `shape_data` was called.
        label: (N,) float32.
    """

    def __init__(self, size: int, stage: Stage, *, channels_last: bool = False) -> None:
        super().__init__(0, channels_last=channels_last)
        self._size, self._stage = size, stage
        self._parcel: Parcel | None = None
        self._delivery: Delivery | None = None
        self._leaving: Delivery | None = None  # memory that may still be copied
        self._memory = stage.pinned(head_bytes(size))
        self.label = labels_in(self._memory, size)

    def shape_data(self, shape: Shape) -> None:
        """See `Batch.shape_data`."""
        self._begin_parcel(
            Parcel(
                self._size,
                shape,
                shape,
                np.dtype(np.float32),
                transformed=True,
                channels_last=self._channels_last,
            )
        )

    def untransformed(self, image: Array, target: Shape) -> tuple[Array, Array] | None:
        """See `Batch.untransformed`; the images lie as the first one does."""
        if image.dtype not in {np.dtype(np.uint8), np.dtype(np.float32)}:
            return None
        if image.nbytes > _MOST_TIMES * 4 * math.prod(target):
            return None  # most would be copied for nothing
        last, backwards = _is_channels_last(image), _is_channels_last(image[::-1])
        parcel = Parcel(
            self._size,
            image.shape,
            target,
            image.dtype,
            channels_last=last or backwards,
            backwards=backwards and not last,
        )
        self._begin_parcel(parcel)
        return self.data, places_in(self._memory, self._size)

    def _begin_parcel(self, parcel: Parcel) -> None:
        self._parcel = parcel
        if self._memory.size < parcel.nbytes:
            head, self._memory = self._memory, self._stage.pinned(parcel.nbytes)
            count = head_bytes(self._size)
            self._memory[:count] = head[:count]
            self.label = labels_in(self._memory, self._size)
        self.data = parcel.images(self._memory)

    # -- on the way --------------------------------------------------------------------
    def begin(self) -> None:
        """Wait until the last copy from this memory is done, as it long should be."""
        if self._leaving is not None:
            self._leaving.wait()
            self._leaving = None
        self._parcel = None

    def prepare(self) -> None:
        """See `Batch.prepare`."""
        assert self._parcel is not None
        self._stage.prepare(self._parcel.nbytes)

    def send(self) -> bool:
        """See `Batch.send`; sent already counts as sent."""
        if self._delivery is None:
            assert self._parcel is not None
            self._delivery = self._stage.send(self._memory, self._parcel)
            self._leaving = self._delivery
        return self._delivery is not None

    def recall(self) -> None:
        """See `Batch.recall`."""
        if self._delivery is not None:
            self._stage.cancel(self._delivery)
            self._delivery = None

    def unload(self, ops: Ops, top: Sequence[Blob]) -> None:
        """Let the device fill the blobs once the copy is there; waits for nothing."""
        assert self._parcel is not None
        assert self._delivery is not None
        top[0].reshape((self._size, *self._parcel.target))
        label = top[1].data if len(top) > 1 else None
        self._stage.unload(self._delivery, top[0].data, label)
        self._delivery = None


def _is_channels_last(image: Array) -> bool:
    """Whether an image (C, H, W) of several channels lies as (H, W, C)."""
    lies: bool = image.transpose(1, 2, 0).flags.c_contiguous
    return lies and not image.flags.c_contiguous
