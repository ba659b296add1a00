"""Blobs seen as plain C-order arrays, whatever their memory looks like."""

from __future__ import annotations

import math

import numpy as np

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.backend.memory import make_buffer
from poseidon_caffe.backend.protocols import Ops
from poseidon_caffe.types import Array, Shape

__all__ = ["Alias", "PlainView", "like", "stored_plain"]


def stored_plain(blob: Blob) -> bool:
    """Whether the blob's memory is in C order of its shape.

    Channels-last memory is too when it has one channel or one place.
    """
    shape = blob.shape
    return not blob.channels_last or shape[1] == 1 or math.prod(shape[2:]) == 1


def like(blob: Blob, dtype: np.dtype | type | None = None) -> Blob:
    """A fresh blob of the same shape and memory layout."""
    return Blob(
        blob.shape,
        dtype=blob.dtype if dtype is None else dtype,
        channels_last=blob.channels_last,
        memory=blob.memory,
    )


class PlainView:
    """Shows arrays in C order under another shape.

    A contiguous array is shown as it is; another goes through a buffer that is
    kept between calls, by ``ops.copy``.

    Args:
        ops: the backend.
        dtype: of most of the arrays; the buffer follows those that have another.
    """

    def __init__(self, ops: Ops, dtype: type) -> None:
        self._ops = ops
        self._scratch = Blob(dtype=dtype, memory=ops.memory)

    def read(self, array: Array, shape: Shape) -> Array:
        """``array`` as a C-order array of ``shape``, for reading."""
        if array.flags.c_contiguous:
            return array.reshape(shape)
        view = self._scratch_array(shape, array.dtype)
        self._ops.copy(array, view)
        return view

    def target(self, array: Array, shape: Shape) -> Array:
        """A C-order array of ``shape`` to write; then call `write_back`."""
        if array.flags.c_contiguous:
            return array.reshape(shape)
        return self._scratch_array(shape, array.dtype)

    def write_back(self, view: Array, array: Array) -> None:
        """Copy what was written to a `target` into ``array``, unless it is there."""
        if not array.flags.c_contiguous:
            self._ops.copy(view, array)

    def _scratch_array(self, shape: Shape, dtype: np.dtype) -> Array:
        if self._scratch.dtype != dtype:
            self._scratch = Blob(dtype=dtype, memory=self._ops.memory)
        self._scratch.reshape(shape)
        return self._scratch.data


class Alias:
    """Lets one blob show another's memory; says when it must be copied instead.

    Used by layers that only rename or reshape (Split, Flatten, Reshape, Concat of
    one bottom).  Bind in ``reshape``; then `forward` and `backward` do what is left.
    """

    def __init__(self, ops: Ops) -> None:
        self._ops = ops
        self._shared = False

    def bind(self, source: Blob, target: Blob, *, diff: bool = True) -> bool:
        """Share data (and diff) when both memories are laid out alike."""
        same = source.shape == target.shape
        alike = (same and source.channels_last == target.channels_last) or (
            stored_plain(source) and stored_plain(target)
        )
        if alike:
            target.share_data(source)
            if diff:
                target.share_diff(source)
        elif self._shared:
            target.data_storage = make_buffer(target.dtype, target.memory)
            target.diff_storage = make_buffer(target.dtype, target.memory)
        self._shared = alike
        return alike

    def forward(self, source: Blob, target: Blob) -> None:
        """Copy the data unless it is shared."""
        if not self._shared:
            self._ops.copy(source.data, target.data)

    def backward(self, target: Blob, source: Blob) -> None:
        """Copy the diff unless it is shared."""
        if not self._shared:
            self._ops.copy(target.diff, source.diff)
