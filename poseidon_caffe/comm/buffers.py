"""Arrays as the bytes that travel."""

from __future__ import annotations

import numpy as np

from poseidon_caffe.errors import ClusterError
from poseidon_caffe.types import Array

__all__ = ["LARGEST_BYTES", "as_bytes"]

LARGEST_BYTES = 2**31 - 1  # what MPI can count; rows are far smaller


def as_bytes(array: Array, *, peer: int, tag: int, is_received: bool) -> Array:
    """The memory of ``array``, any shape and dtype, as uint8 (size_bytes,).

    An array of a GPU stays one: what carries it must be able to.

    Raises:
        ClusterError: it does not lie in one piece, is too large for one message, or
            cannot be received into.
    """
    # CuPy's arrays can always be written.
    is_closed = is_received and not getattr(array.flags, "writeable", True)
    if not array.flags.c_contiguous or is_closed:
        wrong = "read-only" if array.flags.c_contiguous else "not C-contiguous"
        way = "received from" if is_received else "sent to"
        raise ClusterError(
            f"an array of shape {array.shape} to be {way} rank {peer} (tag {tag}) is "
            f"{wrong}: pass np.ascontiguousarray(...), or a buffer of your own"
        )
    if array.nbytes > LARGEST_BYTES:
        raise ClusterError(
            f"a message of {array.nbytes} bytes for or from rank {peer} (tag {tag}) is "
            f"too large, one holds at most {LARGEST_BYTES}: use a smaller row_bytes"
        )
    return array.reshape(-1).view(np.uint8)
