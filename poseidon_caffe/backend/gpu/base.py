"""What all families of GPU kernels share: the device, scratch memory, layouts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from poseidon_caffe.backend.gpu.copies import strided_copy
from poseidon_caffe.backend.gpu.device import Device, pointer
from poseidon_caffe.backend.gpu.launcher import Launcher
from poseidon_caffe.backend.gpu.memory import DeviceMemory
from poseidon_caffe.types import Array, Shape

__all__ = ["GpuFamily", "Scratch", "flat", "is_dense", "memory_order", "same_memory"]


class Scratch:
    """Memory for the length of one call, kept for the next.

    Pieces never move while somebody may have recorded them in a graph: a larger one
    is taken beside the old, which is kept.
    """

    def __init__(self, memory: DeviceMemory) -> None:
        self._memory = memory
        self._pieces: dict[str, Array] = {}
        self._kept: list[Array] = []

    def take(self, name: str, shape: Shape, dtype: np.dtype | type) -> Array:
        """An array for one user of ``name``: contents are whatever was there."""
        dtype = np.dtype(dtype)
        wanted = math.prod(shape) * dtype.itemsize
        piece = self._pieces.get(name)
        if piece is None or piece.size < wanted:
            if piece is not None:
                self._kept.append(piece)
            piece = self._pieces[name] = self._memory.zeros(wanted, np.uint8)
        return piece[:wanted].view(dtype).reshape(shape)


def is_dense(array: Array) -> bool:
    """Whether the elements fill one piece of memory, in whatever order of axes."""
    expected = array.itemsize
    for stride, length in sorted(zip(array.strides, array.shape, strict=True)):
        if length == 1:
            continue
        if stride != expected:
            return False
        expected *= length
    return True


def same_memory(one: Array, other: Array) -> bool:
    """Whether two arrays are the same view of the same memory."""
    return (
        pointer(one) == pointer(other)
        and one.shape == other.shape
        and _steps(one) == _steps(other)
    )


def _steps(array: Array) -> Shape:
    """Strides of the axes that have more than one place."""
    return tuple(
        stride
        for stride, length in zip(array.strides, array.shape, strict=True)
        if length > 1
    )


class GpuFamily:
    """Base of the mixins that make up `GpuOps`.

    Attributes:
        device: the GPU.
        memory: its memory as blobs see it.
        scratch: memory for the length of a call.
    """

    device: Device
    memory: DeviceMemory
    scratch: Scratch

    def kernels(self, source: str) -> Launcher:
        """Kernels of ``kernels/<source>.cu``."""
        return Launcher(self.device, source)

    def copy(self, src: Array, dst: Array) -> None:
        """dst = src; layouts may differ; same shape, or same count in C order.

        The types may differ too: numbers are converted between floats.
        """
        if src.size == 0:
            return
        if src.shape != dst.shape:
            src, dst = self._alike(src, dst)
        if src.dtype == dst.dtype:
            if same_memory(src, dst):
                return
            if is_dense(src) and is_dense(dst) and _steps(src) == _steps(dst):
                self.device.compute.copy(flat(src), flat(dst))
                return
        self._strided_copy(src, dst)

    def _alike(self, src: Array, dst: Array) -> tuple[Array, Array]:
        """Both under one shape, through scratch memory where neither is in C order."""
        if src.flags.c_contiguous:
            return src.reshape(dst.shape), dst
        if dst.flags.c_contiguous:
            return src, dst.reshape(src.shape)
        plain = self.scratch.take("copy", src.shape, src.dtype)
        self._strided_copy(src, plain)
        return plain.reshape(dst.shape), dst

    def _strided_copy(self, src: Array, dst: Array) -> None:
        strided_copy(self.kernels("copy"), src, dst)

    @contextmanager
    def alike(
        self,
        reads: Sequence[Array | None],
        writes: Sequence[Array | None],
        order: Shape | None = None,
    ) -> Iterator[tuple[list[Array | None], list[Array | None]]]:
        """Arrays of one shape, each as a flat piece of memory in one common order.

        The order of axes is ``order``, or else that of the first dense array.  One
        that lies otherwise goes through scratch memory.  What
        is written to the second list's arrays ends up in ``writes``; their old
        contents are there too only if the same array is among ``reads``.

        Yields:
            (reads, writes), flat, None where None was given.
        """
        if order is None:
            order = memory_order([*writes, *reads])
        ins = [
            self._ordered(f"in{i}", a, order, fill=True) for i, a in enumerate(reads)
        ]
        outs: list[Array | None] = []
        for i, a in enumerate(writes):
            twin = next(
                (
                    flat_in
                    for read, flat_in in zip(reads, ins, strict=True)
                    if read is not None and a is not None and same_memory(read, a)
                ),
                None,
            )
            made = self._ordered(f"out{i}", a, order, fill=False)
            outs.append(twin if twin is not None else made)
        yield ins, outs
        for a, out in zip(writes, outs, strict=True):
            if a is not None and out is not None and pointer(out) != pointer(a):
                self.copy(_unflat(out, a.shape, order), a)

    def _ordered(
        self, name: str, array: Array | None, order: Shape, *, fill: bool
    ) -> Array | None:
        if array is None:
            return None
        stored = array.transpose(order)
        if stored.flags.c_contiguous:
            return stored.reshape(-1)
        piece = self.scratch.take(f"alike {name}", (array.size,), array.dtype)
        if fill:
            self.copy(array, _unflat(piece, array.shape, order))
        return piece


def flat(array: Array) -> Array:
    """A dense array as one axis, in the order of its memory."""
    return array.transpose(_order(array)).reshape(-1)


def _order(array: Array) -> Shape:
    """Axes from the slowest to the fastest in memory."""
    strides, shape = array.strides, array.shape
    # Axes of one place have no say; they stay where they are.
    return tuple(
        sorted(
            range(array.ndim),
            key=lambda i: (-strides[i] if shape[i] > 1 else -(1 << 62), i),
        )
    )


def memory_order(arrays: Sequence[Array | None]) -> Shape:
    """Axes from the slowest to the fastest, as the first dense array has them."""
    given = [a for a in arrays if a is not None]
    first = next((a for a in given if is_dense(a)), None)
    return _order(first) if first is not None else tuple(range(given[0].ndim))


def _unflat(piece: Array, shape: Shape, order: Shape) -> Array:
    """A flat piece whose memory holds the axes in ``order``, seen as ``shape``."""
    stored = piece.reshape(tuple(shape[i] for i in order))
    back = tuple(int(i) for i in np.argsort(order))
    return stored.transpose(back)
