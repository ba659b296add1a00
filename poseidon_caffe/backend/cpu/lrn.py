"""Local response normalisation on oneDNN."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Protocol

import numpy as np

from poseidon_caffe.backend.cpu.dnnl import Alg, Arg, Desc, Dnnl, Primitive, Prop, Query
from poseidon_caffe.backend.cpu.layout import (
    alike,
    empty_laid,
    order_of,
    supported,
)
from poseidon_caffe.backend.cpu.lrn_within import WithinLrn
from poseidon_caffe.backend.geometry import LrnGeometry
from poseidon_caffe.backend.memory import empty_array
from poseidon_caffe.backend.reference.batch_norm import same_memory
from poseidon_caffe.backend.reference.lrn import ReferenceLrn
from poseidon_caffe.backend.threads import ThreadPool
from poseidon_caffe.errors import BackendError
from poseidon_caffe.types import Array, Shape

__all__ = ["DnnlLrn"]


class _Kernel(Protocol):
    """Runs on arrays that all lie as those that it was made for."""

    def forward(self, x: Array, y: Array) -> None:
        """y = normalised x."""

    def backward(self, x: Array, dy: Array, dx: Array) -> None:
        """dx = gradient, after a forward of the same x; may be x or dy."""


class _Across:
    """oneDNN's own kernel, across channels."""

    def __init__(self, geometry: LrnGeometry, dnnl: Dnnl, x: Array) -> None:
        g, data = geometry, dnnl.desc_of(x)
        settings = (np.int64(g.size), float(g.alpha), float(g.beta), float(g.k))
        desc = dnnl.describe(
            "lrn_forward", Prop.TRAINING, Alg.LRN_ACROSS, data, data, *settings
        )
        back = dnnl.describe(
            "lrn_backward", Alg.LRN_ACROSS, data, data, data, *settings, desc
        )
        forward: dict[int, Desc] = {Arg.SRC: data, Arg.DST: data}
        backward: dict[int, Desc] = {
            Arg.SRC: data, Arg.DIFF_DST: data, Arg.DIFF_SRC: data,
        }  # fmt: skip
        kept = desc.desc(Query.WORKSPACE)
        self._workspace: tuple[Array, ...] = ()
        if kept.size_bytes:
            forward[Arg.WORKSPACE] = backward[Arg.WORKSPACE] = kept
            self._workspace = (empty_array(kept.size_bytes, np.uint8),)
        self._forward = Primitive(desc, forward)
        self._backward = Primitive(back, backward)

    def forward(self, x: Array, y: Array) -> None:
        """y = normalised x."""
        self._forward(x, y, *self._workspace)

    def backward(self, x: Array, dy: Array, dx: Array) -> None:
        """dx = gradient, after a forward of the same x."""
        # oneDNN reads neighbours' dy after it has written their dx.
        if same_memory(dy, dx):
            dy = _laid(dy, order_of(dy), copy=True)
        self._backward(x, dy, dx, *self._workspace)


class _ImageByImage:
    """The reference on one image after the other, which stays in the cache."""

    def __init__(self, geometry: LrnGeometry, pool: ThreadPool) -> None:
        self._pool = pool
        one = replace(geometry, x_shape=(1, *geometry.x_shape[1:]))
        self._kernels = [ReferenceLrn(one) for _ in range(geometry.x_shape[0])]

    def forward(self, x: Array, y: Array) -> None:
        """y = normalised x."""

        def image(i: int) -> None:
            part = slice(i, i + 1)
            self._kernels[i].forward(x[part], y[part])

        self._pool.run([partial(image, i) for i in range(len(self._kernels))])

    def backward(self, x: Array, y: Array, dy: Array, dx: Array) -> None:
        """dx = gradient, after a forward of the same x."""

        def image(i: int) -> None:
            part = slice(i, i + 1)
            self._kernels[i].backward(x[part], y[part], dy[part], dx[part])

        self._pool.run([partial(image, i) for i in range(len(self._kernels))])


class DnnlLrn:
    """`LrnKernel` on oneDNN; what it has no fast code for as the reference does it."""

    def __init__(self, geometry: LrnGeometry, dnnl: Dnnl, pool: ThreadPool) -> None:
        self.geometry = geometry
        self._dnnl, self._pool = dnnl, pool
        self._reference = _ImageByImage(geometry, pool)
        self._last: tuple[_Kernel, Shape] | None = None
        self._kernels: dict[Shape, _Kernel | None] = {}

    def _make(self, x: Array) -> _Kernel | None:
        if self.geometry.across_channels:
            # oneDNN 2023.2 crashes on a neighbourhood of one channel.
            across = self.geometry.size > 1
            return _Across(self.geometry, self._dnnl, x) if across else None
        try:
            return WithinLrn(self.geometry, self._dnnl, self._pool, x)
        except BackendError:
            return None

    def _kernel(self, x: Array, y: Array) -> tuple[_Kernel, Shape] | None:
        """The kernel for arrays that lie so (`order_of`)."""
        if not (supported(x) and alike(x, y)):
            return None
        order = order_of(x)
        if order not in self._kernels:
            self._kernels[order] = self._make(x)
        kernel = self._kernels[order]
        return None if kernel is None else (kernel, order)

    def forward(self, x: Array, y: Array) -> None:
        """y = normalised x."""
        self._last = self._kernel(x, y)
        if self._last is None:
            self._reference.forward(x, y)
        else:
            self._last[0].forward(x, y)

    def backward(self, x: Array, y: Array, dy: Array, dx: Array) -> None:
        """dx = gradient, after a forward of the same x."""
        if self._last is None:
            self._reference.backward(x, y, dy, dx)
            return
        kernel, order = self._last
        # As the forward's arrays lie.
        out = dx if order_of(dx) == order else empty_laid(dx.shape, order)
        kernel.backward(_laid(x, order), _laid(dy, order), out)
        if out is not dx:
            np.copyto(dx, out)


def _laid(array: Array, order: Shape, *, copy: bool = False) -> Array:
    """The array itself if it lies so, else (or if asked) a copy that does."""
    if order_of(array) == order and not copy:
        return array
    out = empty_laid(array.shape, order)
    np.copyto(out, array)
    return out
