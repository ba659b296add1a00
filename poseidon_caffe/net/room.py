"""How large a batch a device's memory has room for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from poseidon_caffe.backend.memory import NoRoomError
    from poseidon_caffe.net.net import Net

__all__ = ["batch_that_fits", "largest_batch", "parameters_fit"]

_PER_PARAMETER = 4
"""Values, gradient, and two history arrays, as Adam has them."""

_KEPT = 1.4
"""What layers keep beside blobs (masks, copies in another layout), by experience."""

_SCRATCH_BYTES = 256 << 20
"""What kernels work in (the columns of convolutions): at most an eighth of a GPU."""


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


def parameters_fit(parameter_bytes: int, free_bytes: int) -> bool:
    """Whether there is room to train parameters of so many bytes."""
    return _PER_PARAMETER * parameter_bytes <= free_bytes


def batch_that_fits(net: Net, batch: int, error: NoRoomError) -> int:
    """An estimate for ``net``, whose present batch is ``batch`` and is too large.

    It begins with the memory that was free when the net began to be built.  What the
    net has taken since and what it lacked now are the least that its batch needs;
    where blobs do not share memory, all activations and gradients are.
    """
    parameters = sum(blob.count * blob.dtype.itemsize for blob in net.learnable)
    known = net.room_bytes - error.free_bytes + error.wanted_bytes - parameters
    needed = known if net.options.share_memory else max(known, _all_blobs(net))
    fixed = _PER_PARAMETER * parameters + min(_SCRATCH_BYTES, net.room_bytes // 8)
    return largest_batch(batch, int(_KEPT * needed), fixed, net.room_bytes)


def _all_blobs(net: Net) -> int:
    """Bytes of all activations and their gradients, each memory once."""
    seen: dict[int, int] = {}
    for tops, backward in zip(net.top_blobs, net.layer_need_backward, strict=True):
        for blob in tops:
            size = blob.count * blob.dtype.itemsize
            for storage in (blob.data_storage, *([blob.diff_storage] * backward)):
                seen[id(storage)] = max(seen.get(id(storage), 0), size)
    return sum(seen.values())
