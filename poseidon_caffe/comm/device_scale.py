"""The loss scale of a net on a GPU, as a cluster sees it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from poseidon_caffe.backend.protocols import LossScale, Transfers
from poseidon_caffe.comm.carrier import ParamBlob
from poseidon_caffe.comm.courier import Courier
from poseidon_caffe.types import Array

__all__ = ["DeviceScale"]


class DeviceScale:
    """`GradientScale` by kernels; 8 bytes an iteration come from the device.

    Args:
        courier: of this rank.
        blobs: the net's own, by slot index.
        loss_scale: the net's.
        transfers: make the copies.
    """

    def __init__(
        self,
        courier: Courier,
        blobs: Sequence[ParamBlob],
        loss_scale: LossScale,
        transfers: Transfers,
    ) -> None:
        self._courier, self._blobs = courier, blobs
        self._loss_scale, self._transfers = loss_scale, transfers
        self.follow = loss_scale.follow
        #: Pinned; as many as reports were ever under way at once.
        self._free: deque[Array] = deque()

    def watch_gradient(self, slot: int) -> None:
        """Note whether the slot's gradient has overflowed."""
        self._loss_scale.watch(self._blobs[slot].diff.reshape(-1))

    def watch_factor(self, factor: Array) -> None:
        """The same of a factor."""
        self._loss_scale.watch(factor.reshape(-1))

    def report(self, then: Callable[[float, bool], None]) -> None:
        """Call ``then`` in the courier's thread once the kernels so far are done."""
        target = self._free.popleft() if self._free else self._pinned()
        moment = self._transfers.snap(self._loss_scale.report(), target)

        def there() -> None:
            factor, overflowed = float(target[0]), bool(target[1])
            self._free.append(target)
            then(factor, overflowed)

        self._courier.when(moment.done, there)

    def _pinned(self) -> Array:
        return self._transfers.pinned(2, np.float32)
