"""HostTops: blobs that are filled on the host in each pass."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.backend.parcel import Parcel, PixelRule
from poseidon_caffe.backend.protocols import Delivery, Ops, Stage
from poseidon_caffe.types import Array

__all__ = ["HostTops"]

_IMAGE_AXES = 4


class _Box:
    """Pinned memory for one blob: two pieces, filled in turn.

    Args:
        stage: where they are sent to.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._memories = [stage.pinned(1), stage.pinned(1)]
        self._leaving: list[Delivery | None] = [None, None]
        self._turn = 0
        self._parcel: Parcel | None = None

    def array(self, blob: Blob) -> Array:
        """Memory of the blob's shape and layout; waits for its copy before the last."""
        turn = self._turn
        leaving = self._leaving[turn]
        if leaving is not None:
            leaving.wait()
            self._leaving[turn] = None
        size, *rest = blob.shape
        wide = blob.dtype == np.float64
        self._parcel = parcel = Parcel(
            size,
            tuple(rest),
            tuple(rest),
            np.dtype(np.float64 if wide else np.float32),
            transformed=True,
            channels_last=blob.channels_last and len(blob.shape) == _IMAGE_AXES,
        )
        if self._memories[turn].size < parcel.nbytes:
            self._memories[turn] = self._stage.pinned(parcel.nbytes)
        return parcel.images(self._memories[turn])

    def send(self, blob: Blob) -> None:
        """Let the blob have what was written; waits for nothing."""
        assert self._parcel is not None
        self._stage.prepare(self._parcel.nbytes)
        delivery = self._stage.send(self._memories[self._turn], self._parcel)
        assert delivery is not None  # each is unloaded at once
        self._stage.unload(delivery, blob.data, None)
        self._leaving[self._turn] = delivery
        self._turn = 1 - self._turn

    def close(self) -> None:
        """Wait for copies under way."""
        self._stage.close()


class HostTops:
    """Lets a layer fill its tops on the host, wherever kernels want them.

    On a GPU the numbers go through pinned memory, so that the host goes on while they
    are copied.

    Args:
        ops: the backend.
    """

    def __init__(self, ops: Ops) -> None:
        self._ops = ops
        self._boxes: list[_Box] = []

    def arrays(self, top: Sequence[Blob]) -> list[Array]:
        """NumPy arrays of the blobs' shapes to be filled, then `send`."""
        for _ in top[len(self._boxes) :]:
            stage = self._ops.stage(PixelRule(), 0)
            if stage is None:
                return [blob.mutable_cpu_data for blob in top]
            self._boxes.append(_Box(stage))
        boxes = self._boxes[: len(top)]
        return [box.array(blob) for box, blob in zip(boxes, top, strict=True)]

    def send(self, top: Sequence[Blob]) -> None:
        """Let the blobs have what was written into the `arrays`."""
        for box, blob in zip(self._boxes, top, strict=False):
            box.send(blob)
        for blob in top:
            blob.touch()

    def close(self) -> None:
        """Wait for copies under way."""
        for box in self._boxes:
            box.close()
