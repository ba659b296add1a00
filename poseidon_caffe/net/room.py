"""How large a batch a device's memory has room for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from poseidon_caffe.net.net import Net

__all__ = ["batch_that_fits", "largest_batch"]

_PER_PARAMETER = 4
"""Values, gradient, one history array, and as much again for workspaces."""


def largest_batch(batch: int, batch_bytes: int, fixed_bytes: int, total: int) -> int:
    """The batch whose activations fill what the parameters leave; 0 if none fits.

    Args:
        batch: the present one.
        batch_bytes: what it needs, which grows with it.
        fixed_bytes: what does not.
        total: bytes of the device.
    """
    room = total - fixed_bytes
    if room <= 0 or batch_bytes <= 0:
        return 0
    return min(room * batch // batch_bytes, batch)


def batch_that_fits(net: Net, batch: int) -> int:
    """An estimate for ``net``, whose present batch is ``batch`` and is too large.

    Activations and their gradients are counted once each; memory that blobs share
    later makes the truth larger.
    """
    seen: dict[int, int] = {}
    for tops, backward in zip(net.top_blobs, net.layer_need_backward, strict=True):
        for blob in tops:
            size = blob.count * blob.dtype.itemsize
            storages = [blob.data_storage, *([blob.diff_storage] * backward)]
            for storage in storages:
                seen[id(storage)] = max(seen.get(id(storage), 0), size)
    fixed = sum(blob.count * blob.dtype.itemsize for blob in net.learnable)
    total = net.ops.memory.limit_bytes()
    return largest_batch(batch, sum(seen.values()), _PER_PARAMETER * fixed, total)
