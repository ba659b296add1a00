"""Blob: a named array with its gradient, Caffe's unit of data.

A blob is seen as an (N, C, H, W) NumPy array whatever its memory looks like.
Activations of four or five axes may live channels-last, which is what the CPU
kernels like best; parameters are always plain C order, as Caffe's files are.

Memory sits in a `Buffer`, which blobs may share (Split, Reshape, the arena that
``train`` plans).  ``data`` and ``diff`` are arrays of the backend's memory, for its
kernels; ``cpu_data``, ``mutable_cpu_data`` and their like are NumPy arrays, as in
Caffe: the same ones on a CPU, copies of what a GPU holds otherwise.
"""

from __future__ import annotations

import math
import sys

import numpy as np

from poseidon_caffe.backend.memory import HOST, Buffer, make_buffer, view_of
from poseidon_caffe.backend.protocols import Memory
from poseidon_caffe.errors import ShapeError
from poseidon_caffe.types import Array, Shape

__all__ = ["Blob"]

_AXIS_MAX = 2**31 - 1
_ELEMENTS_MAX = sys.maxsize // 16


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
        memory: where kernels want it; ``ops.memory``.

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
        "memory",
    )

    def __init__(
        self,
        shape: Shape = (),
        *,
        dtype: np.dtype | type = np.float32,
        channels_last: bool = False,
        memory: Memory = HOST,
    ) -> None:
        self.dtype = np.dtype(dtype)
        self.memory = memory
        self.data_storage = make_buffer(self.dtype, memory)
        self.diff_storage = make_buffer(self.dtype, memory)
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
        """The values, an array of ``memory`` of shape ``shape``, for kernels."""
        cached, storage = self._data_view, self.data_storage
        storage.to_device()
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
        """The gradient, an array of ``memory`` of shape ``shape``, for kernels."""
        view = self._diff_array()
        if self._diff_is_zero:
            self.memory.clear(view)
            self._diff_is_zero = False
        return view

    def _diff_array(self) -> Array:
        cached, storage = self._diff_view, self.diff_storage
        storage.to_device()
        if (
            cached is None
            or cached[0] is not storage
            or cached[1] != storage.generation
        ):
            view = storage.view(self._shape, channels_last=self.channels_last)
            self._diff_view = cached = (storage, storage.generation, view)
        return cached[2]

    @property
    def cpu_data(self) -> Array:
        """The values as a NumPy array of shape ``shape``, to read only."""
        return self._on_host(self.data_storage, write=False)

    @property
    def mutable_cpu_data(self) -> Array:
        """The values as a NumPy array that may be written until they are used next."""
        return self._on_host(self.data_storage, write=True)

    @property
    def cpu_diff(self) -> Array:
        """The gradient as a NumPy array of shape ``shape``, to read only."""
        if self._diff_is_zero:
            _ = self.diff
        return self._on_host(self.diff_storage, write=False)

    @property
    def mutable_cpu_diff(self) -> Array:
        """The gradient as a NumPy array that may be written until it is used next."""
        if self._diff_is_zero:
            _ = self.diff
        return self._on_host(self.diff_storage, write=True)

    def _on_host(self, storage: Buffer, *, write: bool) -> Array:
        raw = storage.to_host(self.count, write=write)
        return view_of(raw, self._shape, channels_last=self.channels_last)

    def clear_diff(self) -> None:
        """Set the gradient to zero, lazily: the next kernel may just overwrite it."""
        self._diff_is_zero = True

    @property
    def diff_is_zero(self) -> bool:
        """Whether the gradient counts as zero whatever its memory holds."""
        return self._diff_is_zero

    @diff_is_zero.setter
    def diff_is_zero(self, zero: bool) -> None:
        self._diff_is_zero = zero

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
        if self.data_storage is not other.data_storage:
            self.data_storage = other.data_storage
            self.memory.allocations += 1
        self._data_view = None
        count = max(self.version, other.version) + 1
        self._changes = other._changes
        self._changes.count = count

    def share_diff(self, other: Blob) -> None:
        """Use ``other``'s diff memory."""
        if self.diff_storage is not other.diff_storage:
            self.diff_storage = other.diff_storage
            self.memory.allocations += 1
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
