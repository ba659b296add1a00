"""A row seen in the memory of the parameters it is cut from."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from poseidon_caffe.comm.model import ParamBlob
from poseidon_caffe.comm.rows import Row
from poseidon_caffe.types import Array

__all__ = ["RowMemory", "ServedBlob", "pack", "unpack"]


def pack(parts: Sequence[Array], whole: Array) -> Array:
    """Copy ``parts`` one after the other into ``whole``; ``whole``."""
    at = 0
    for part in parts:
        whole[at : at + part.size] = part
        at += part.size
    return whole


def unpack(whole: Array, parts: Sequence[Array]) -> None:
    """Copy ``whole`` back into ``parts``."""
    at = 0
    for part in parts:
        part[...] = whole[at : at + part.size]
        at += part.size


class ServedBlob:
    """A parameter on a rank that only serves, `ParamBlob`: the net's own host copy.

    Nobody computes with it there, so nothing goes to a device, or is pinned for that.

    Args:
        blob: of the model.
    """

    def __init__(self, blob: ParamBlob) -> None:
        self._blob = blob

    @property
    def dtype(self) -> np.dtype:
        """Of the elements."""
        return self._blob.dtype

    @cached_property
    def data(self) -> Array:
        """Values, plain C order; always the same memory."""
        return self._blob.mutable_cpu_data

    @property
    def mutable_cpu_data(self) -> Array:
        """The same."""
        return self.data

    @property
    def diff(self) -> Array:
        """The blob's; a server needs none."""
        return self._blob.diff

    def gradient_target(self) -> tuple[Array, bool]:
        """The blob's; a server needs none."""
        return self._blob.gradient_target()

    def touch(self) -> None:
        """Say that ``data`` changed."""
        self._blob.touch()


class RowMemory:
    """Where a row's values and gradients lie on this rank.

    A row of one piece is sent from and received into the parameter's own memory; one
    of several goes through buffers of its own.

    Gradients are first looked at when a worker sends them: a server's take no memory.

    Attributes:
        data: flat views of the values, one a piece.
    """

    def __init__(self, row: Row, blobs: Sequence[ParamBlob]) -> None:
        self.row = row
        self._blobs = [blobs[piece.slot] for piece in row.pieces]
        self.data = [
            blob.data.reshape(-1)[piece.start : piece.stop]
            for blob, piece in zip(self._blobs, row.pieces, strict=True)
        ]
        self._outgoing: Array | None = None
        self._incoming: Array | None = None

    @property
    def sources(self) -> list[Array]:
        """What this worker contributes: gradients, or the values of statistics."""
        if self.row.is_mean:
            return self.data
        # Each time anew: a gradient that nobody wrote becomes zeros.
        return [
            blob.diff.reshape(-1)[piece.start : piece.stop]
            for blob, piece in zip(self._blobs, self.row.pieces, strict=True)
        ]

    def contribution(self) -> Array:
        """What this worker sends, one flat array; valid until the next call."""
        sources = self.sources
        if len(sources) == 1:
            return sources[0]
        if self._outgoing is None:
            self._outgoing = self._buffer()
        return pack(sources, self._outgoing)

    def values(self) -> Array:
        """The present values as one flat array; valid until the next call.

        Statistics are copied: the next forward changes them while they are sent.
        """
        if len(self.data) == 1 and not self.row.is_mean:
            return self.data[0]
        if self._incoming is None:
            self._incoming = self._buffer()
        return pack(self.data, self._incoming)

    def target(self) -> Array:
        """Where new values may be received; `take` then puts them in place."""
        if len(self.data) == 1:
            return self.data[0]
        if self._incoming is None:
            self._incoming = self._buffer()
        return self._incoming

    def take(self, values: Array) -> None:
        """Put values, received into `target` or elsewhere, in place."""
        if len(self.data) > 1 or values is not self.data[0]:
            unpack(values, self.data)

    def _buffer(self) -> Array:
        return np.empty(self.row.count, self.row.dtype)
