"""EpochOrder: the order of the records in each epoch."""

from __future__ import annotations

from threading import Lock

import numpy as np
import numpy.typing as npt

from poseidon_caffe.data import draws

__all__ = ["EpochOrder"]

_KEPT = 4  # epochs that batches being read at one time may touch


class EpochOrder:
    """Which record of a source a global record number means.

    Mixed, every epoch has an order of its own, which depends on the key and on
    the epoch's number alone: all workers deal from one order, and a resumed run
    goes on in the one it left.  Calls may come from several threads.

    Args:
        size: records of an epoch.
        key: of the draws; see `data.draws`.
        shuffle: whether to mix.
        stream: of the draws.
    """

    def __init__(self, size: int, key: int, *, shuffle: bool, stream: int) -> None:
        self._size = size
        self._key = key
        self._shuffle = shuffle
        self._stream = stream
        self._known: dict[int, npt.NDArray[np.intp]] = {}
        self._lock = Lock()

    def rekey(self, key: int) -> None:
        """Mix by another key from now on."""
        with self._lock:
            self._key = key
            self._known.clear()

    def index(self, record: int) -> int:
        """Index in the source of the record of this global number."""
        epoch, place = divmod(record, self._size)
        return int(self._epoch(epoch)[place]) if self._shuffle else place

    def _epoch(self, epoch: int) -> npt.NDArray[np.intp]:
        with self._lock:
            order = self._known.get(epoch)
            if order is None:
                start = epoch * self._size
                numbers = np.arange(start, start + self._size)
                drawn = draws.bits(self._key, numbers, self._stream)
                order = np.argsort(drawn, kind="stable")
                while len(self._known) >= _KEPT:
                    del self._known[next(iter(self._known))]
                self._known[epoch] = order
            return order
