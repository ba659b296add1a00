"""Sums over sliding windows along one axis, for pooling and normalisation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from poseidon_caffe.types import Array

__all__ = ["Windows"]


@dataclass(frozen=True)
class Windows:
    """Windows along one axis: ``count`` of them, starting at i * stride - pad.

    Attributes:
        size: length of the axis.
        count: number of windows; they may overstep the axis on both sides.
    """

    size: int
    count: int
    kernel: int
    stride: int = 1
    pad: int = 0

    def taps(self) -> list[tuple[int, slice, slice]]:
        """(offset, windows, elements) for each offset in a window.

        ``windows`` are those whose element at ``offset`` lies on the axis and
        ``elements`` are these elements, one for each.  Empty ones are left out.
        """
        found = []
        for offset in range(self.kernel):
            shift = offset - self.pad
            first = max(0, -(shift // self.stride))
            stop = min(self.count, (self.size - 1 - shift) // self.stride + 1)
            if first < stop:
                start = first * self.stride + shift
                end = (stop - 1) * self.stride + shift + 1
                found.append(
                    (offset, slice(first, stop), slice(start, end, self.stride))
                )
        return found

    def bounds(self) -> list[tuple[int, int]]:
        """(start, stop) of each window, clipped to the axis."""
        starts = [i * self.stride - self.pad for i in range(self.count)]
        return [
            (min(max(s, 0), self.size), min(max(s + self.kernel, 0), self.size))
            for s in starts
        ]

    def padded_lengths(self) -> Array:
        """Length of each window within the padded axis, Caffe's AVE divisor.

        A window that begins beyond the padded axis counts 1, so that its
        average is 0 and not 0/0.
        """
        starts = np.arange(self.count) * self.stride - self.pad
        ends = np.minimum(starts + self.kernel, self.size + self.pad)
        return np.maximum(ends - starts, 1)

    def sum(self, x: Array, axis: int, out: Array | None = None) -> Array:
        """Sum of each window along ``axis``."""
        x = np.moveaxis(x, axis, 0)
        if out is None:
            shape = (self.count, *x.shape[1:])
            target = np.zeros(shape, x.dtype)
        else:
            target = np.moveaxis(out, axis, 0)
            target[...] = 0
        if self.kernel <= self.count:
            for _, windows, elements in self.taps():
                target[windows] += x[elements]
        else:
            for i, (start, stop) in enumerate(self.bounds()):
                x[start:stop].sum(axis=0, out=target[i, ...])
        return np.moveaxis(target, 0, axis)

    def spread(self, y: Array, axis: int) -> Array:
        """The transpose of `sum`: each element gets the sum over its windows."""
        y = np.moveaxis(y, axis, 0)
        target = np.zeros((self.size, *y.shape[1:]), y.dtype)
        if self.kernel <= self.count:
            for _, windows, elements in self.taps():
                target[elements] += y[windows]
        else:
            for i, (start, stop) in enumerate(self.bounds()):
                target[start:stop] += y[i]
        return np.moveaxis(target, 0, axis)
