"""Blob: a named array with its gradient, Caffe's unit of data.

A blob is seen as an (N, C, H, W) NumPy array whatever its memory looks like.
Activations of four or five axes may live channels-last, which is what the CPU
kernels like best; parameters are always plain C order, as Caffe's files are.

Memory sits in a `Buffer`, which blobs may share (Split, Reshape, the arena that
``train`` plans).
"""

from __future__ import annotations

import math
import os
import resource
import sys

import numpy as np

from poseidon_caffe.errors import ShapeError
from poseidon_caffe.types import Array, Shape

__all__ = ["Blob", "Buffer", "empty_array", "memory_limit", "view_of"]

_ALIGN_BYTES = 64
_AXIS_MAX = 2**31 - 1
_ELEMENTS_MAX = sys.maxsize // 16


def empty_array(count: int, dtype: np.dtype | type = np.float32) -> Array:
    """An uninitialised 1-D array of ``count`` elements, aligned to 64 bytes."""
    dtype = np.dtype(dtype)
    raw = np.empty(count * dtype.itemsize + _ALIGN_BYTES, np.uint8)
    start = -raw.ctypes.data % _ALIGN_BYTES
    return raw[start : start + count * dtype.itemsize].view(dtype)


def memory_limit() -> int:
    """Bytes that one array can have at most.

    This machine's memory, or the limit that the process runs under (``ulimit -v``)
    if that is less.
    """
    limit = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if limit <= 0:
        limit = sys.maxsize
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return limit if soft == resource.RLIM_INFINITY else min(limit, soft)


def view_of(raw: Array, shape: Shape, *, channels_last: bool) -> Array:
    """See the first elements of a 1-D array as ``shape``.

    Channels-last memory of shape (N, C, *spatial) stores (N, *spatial, C); the
    returned view has its axes in Caffe's order again.
    """
    count = math.prod(shape)
    if not channels_last:
        return raw[:count].reshape(shape)
    stored = raw[:count].reshape((shape[0], *shape[2:], shape[1]))
    return np.moveaxis(stored, -1, 1)


class Buffer:
    """Memory that grows and never shrinks; ``generation`` counts reallocations.

    Fresh memory is zero (pages the kernel has not touched cost nothing).
    """

    __slots__ = ("dtype", "generation", "raw")

    def __init__(
        self, dtype: np.dtype | type = np.float32, raw: Array | None = None
    ) -> None:
        self.dtype = np.dtype(dtype)
        self.raw: Array = np.empty(0, self.dtype) if raw is None else raw
        self.generation = 0

    def reserve(self, count: int) -> None:
        """Make room for ``count`` elements; contents are lost when it grows.

        Raises:
            MemoryError: there is not so much memory.
        """
        if self.raw.size < count:
            # The system may grant what it cannot keep, and kill the process later.
            if count * self.dtype.itemsize > memory_limit():
                raise MemoryError(
                    f"{count} elements need {count * self.dtype.itemsize / 2**30:.1f} "
                    f"GiB, and this machine has {memory_limit() / 2**30:.1f} GiB"
                )
            raw = np.zeros(count + _ALIGN_BYTES // self.dtype.itemsize, self.dtype)
            start = (-raw.ctypes.data % _ALIGN_BYTES) // self.dtype.itemsize
            self.raw = raw[start : start + count]
            self.generation += 1

    def view(self, shape: Shape, *, channels_last: bool) -> Array:
        """The first elements as ``shape``; grows the buffer when needed."""
        self.reserve(math.prod(shape))
        return view_of(self.raw, shape, channels_last=channels_last)


class _Changes:
    """What all blobs that share one piece of data know about its changes."""

    __slots__ = ("count", "exposed")

    def __init__(self) -> None:
        self.count = 0
        self.exposed = False


def _possible(shape: Shape) -> Shape:
    """``shape`` as plain integers; ShapeError when no array can have it."""
    shape = tuple(int(n) for n in shape)
    problem = ""
    if any(n < 0 for n in shape):
        problem = "axes must not be negative"
    elif max(shape, default=0) > _AXIS_MAX:
        problem = f"an axis has at most {_AXIS_MAX} places, as in Caffe"
    elif math.prod(n or 1 for n in shape) > _ELEMENTS_MAX:
        problem = "no machine addresses so much"
    if problem:
        raise ShapeError(f"a blob cannot have the shape {shape}: {problem}")
    return shape


class Blob:
    """An N-D array ``data`` and its gradient ``diff``, allocated at first use.

    Args:
        shape: () is a scalar, as a loss is.
        dtype: float32 for work, float64 for gradient checks.
        channels_last: store 4- and 5-axis shapes channels-last.

    """

    __slots__ = (
        "_changes",
        "_channels_last",
        "_data_view",
        "_diff_is_zero",
        "_diff_view",
        "_shape",
        "data_storage",
        "diff_storage",
        "dtype",
    )

    def __init__(
        self,
        shape: Shape = (),
        *,
        dtype: np.dtype | type = np.float32,
        channels_last: bool = False,
    ) -> None:
        self.dtype = np.dtype(dtype)
        self.data_storage = Buffer(self.dtype)
        self.diff_storage = Buffer(self.dtype)
        self._changes = _Changes()
        self._channels_last = channels_last
        self._diff_is_zero = False
        self._shape: Shape = _possible(shape)
        self._data_view: tuple[Buffer, int, Array] | None = None
        self._diff_view: tuple[Buffer, int, Array] | None = None

    # -- shape ---------------------------------------------------------------
    @property
    def shape(self) -> Shape:
        """Axis lengths, Caffe's order."""
        return self._shape

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self._shape)

    @property
    def channels_last(self) -> bool:
        """Whether the memory is stored channels-last right now."""
        return self._channels_last and len(self._shape) in {4, 5}

    def reshape(self, shape: Shape) -> None:
        """Take a new shape; contents are undefined when the count grows."""
        shape = _possible(shape)
        if shape != self._shape:
            self._shape = shape
            self._data_view = self._diff_view = None

    def canonical_axis(self, axis: int) -> int:
        """``axis`` counted from the front (-1 is the last), or ShapeError."""
        if not -len(self._shape) <= axis < len(self._shape):
            msg = f"axis {axis} is out of range for a blob of shape {self._shape}"
            raise ShapeError(msg)
        return axis % len(self._shape)

    # -- memory --------------------------------------------------------------
    @property
    def data(self) -> Array:
        """The values, a writable view of shape ``shape``."""
        cached, storage = self._data_view, self.data_storage
        if (
            cached is None
            or cached[0] is not storage
            or cached[1] != storage.generation
        ):
            view = storage.view(self._shape, channels_last=self.channels_last)
            self._data_view = cached = (storage, storage.generation, view)
        return cached[2]

    @property
    def diff(self) -> Array:
        """The gradient, a writable view of shape ``shape``."""
        view = self._diff_array()
        if self._diff_is_zero:
            view[...] = 0
            self._diff_is_zero = False
        return view

    def _diff_array(self) -> Array:
        cached, storage = self._diff_view, self.diff_storage
        if (
            cached is None
            or cached[0] is not storage
            or cached[1] != storage.generation
        ):
            view = storage.view(self._shape, channels_last=self.channels_last)
            self._diff_view = cached = (storage, storage.generation, view)
        return cached[2]

    def clear_diff(self) -> None:
        """Set the gradient to zero, lazily: the next kernel may just overwrite it."""
        self._diff_is_zero = True

    def gradient_target(self) -> tuple[Array, bool]:
        """``(diff, accumulate)`` for a kernel that adds to a parameter's gradient.

        When ``accumulate`` is false the kernel must overwrite every element.
        """
        accumulate = not self._diff_is_zero
        self._diff_is_zero = False
        return self._diff_array(), accumulate

    def share_data(self, other: Blob) -> None:
        """Use ``other``'s data memory (same count, any shape), and its version.

        That becomes one that neither blob had: no cache of either is fresh.
        """
        if self._changes is other._changes and self.data_storage is other.data_storage:
            return
        self.data_storage = other.data_storage
        self._data_view = None
        count = max(self.version, other.version) + 1
        self._changes = other._changes
        self._changes.count = count

    def share_diff(self, other: Blob) -> None:
        """Use ``other``'s diff memory."""
        self.diff_storage = other.diff_storage
        self._diff_view = None

    # -- caches --------------------------------------------------------------
    @property
    def version(self) -> int:
        """How often the library has changed ``data``, as `touch` was told."""
        return self._changes.count

    @property
    def exposed(self) -> bool:
        """Whether a user holds a writable view, so any cache of ``data`` is stale."""
        return self._changes.exposed

    @exposed.setter
    def exposed(self, exposed: bool) -> None:
        self._changes.exposed = exposed

    def touch(self) -> None:
        """Say that ``data`` changed, so that kernels repack it."""
        self._changes.count += 1

    @property
    def key(self) -> int | None:
        """Version for caches of ``data``; None when it may change unseen."""
        return None if self.exposed else self.version
