"""Bringing batches of records to where kernels want them, while kernels run."""

from __future__ import annotations

from typing import Protocol

from poseidon_caffe.backend.parcel import Parcel, PixelRule
from poseidon_caffe.types import Array

__all__ = ["Delivery", "FeedOps", "Stage"]


class Delivery(Protocol):
    """A batch that is on its way to the device, or there."""

    def wait(self) -> None:
        """Return once the memory that it was sent from may be written again."""


class Stage(Protocol):
    """Where batches wait on the device: sent by any thread, used by one.

    The thread that computes calls `prepare`, `unload`, `cancel` and `close`; no call
    but `Delivery.wait` and `close` waits for the device.
    """

    def pinned(self, nbytes: int) -> Array:
        """A flat uint8 NumPy array to send from; any thread.

        Raises:
            MemoryError: there is not so much memory.
        """

    def prepare(self, nbytes: int) -> None:
        """Make sure that batches of so many bytes have room.

        Raises:
            MemoryError: the device has no such room.
        """

    def send(self, memory: Array, parcel: Parcel) -> Delivery | None:
        """Begin to copy a batch from pinned memory; any thread.

        Returns:
            None when there is no room now: each batch sent takes some until it is
            unloaded or cancelled.
        """

    def unload(self, delivery: Delivery, data: Array, label: Array | None) -> None:
        """Transform the batch into ``data`` (N, C, h, w), any layout, and its labels.

        Kernels given afterwards find it there.

        Args:
            delivery: from `send`; its room is free for the next one.
            data: an array of the backend's memory, overwritten.
            label: (N,), likewise; None to leave labels out.
        """

    def cancel(self, delivery: Delivery) -> None:
        """Forget a batch that was sent."""

    def close(self) -> None:
        """Wait for copies under way, and give up all memory."""


class FeedOps(Protocol):
    """Feeding of nets."""

    def stage(self, rule: PixelRule, ahead: int) -> Stage | None:
        """A way for batches to the device's memory.

        Args:
            rule: what is done to pixels there.
            ahead: batches that may be on their way while one is used.

        Returns:
            None where kernels use the host's memory: batches are transformed there.
        """
