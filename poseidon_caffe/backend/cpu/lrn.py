"""Local response normalisation on oneDNN."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from poseidon_caffe.backend.blob import empty_array
from poseidon_caffe.backend.cpu.dnnl import Alg, Arg, Desc, Dnnl, Primitive, Prop, Query
from poseidon_caffe.backend.cpu.layout import (
    alike,
    empty_laid,
    order_of,
    supported,
)
from poseidon_caffe.backend.geometry import LrnGeometry
from poseidon_caffe.backend.reference.batch_norm import same_memory
from poseidon_caffe.backend.reference.lrn import ReferenceLrn
from poseidon_caffe.backend.threads import ThreadPool
from poseidon_caffe.types import Array, Shape

__all__ = ["DnnlLrn"]


@dataclass
class _Plan:
    """Both primitives for one layout (`order_of`) of all arrays."""

    forward: Primitive
    backward: Primitive
    workspace: Array | None
    order: Shape


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
    """`LrnKernel` across channels on oneDNN; the rest as the reference does it."""

    def __init__(self, geometry: LrnGeometry, dnnl: Dnnl, pool: ThreadPool) -> None:
        self.geometry = geometry
        self._dnnl = dnnl
        self._reference = _ImageByImage(geometry, pool)
        self._last: _Plan | None = None
        self._plans: dict[Shape, _Plan] = {}

    def _make(self, x: Array) -> _Plan:
        g, dnnl, data = self.geometry, self._dnnl, self._dnnl.desc_of(x)
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
        workspace = None
        if kept.size_bytes:
            forward[Arg.WORKSPACE] = backward[Arg.WORKSPACE] = kept
            workspace = empty_array(kept.size_bytes, np.uint8)
        return _Plan(
            Primitive(desc, forward), Primitive(back, backward), workspace, order_of(x)
        )

    def _plan(self, x: Array, y: Array) -> _Plan | None:
        g = self.geometry
        # oneDNN 2023.2 crashes on a neighbourhood of one channel.
        if not (g.across_channels and g.size > 1 and supported(x) and alike(x, y)):
            return None
        order = order_of(x)
        plan = self._plans.get(order)
        if plan is None:
            plan = self._plans[order] = self._make(x)
        return plan

    def forward(self, x: Array, y: Array) -> None:
        """y = normalised x."""
        self._last = plan = self._plan(x, y)
        if plan is None:
            self._reference.forward(x, y)
        elif plan.workspace is None:
            plan.forward(x, y)
        else:
            plan.forward(x, y, plan.workspace)

    def backward(self, x: Array, y: Array, dy: Array, dx: Array) -> None:
        """dx = gradient, after a forward of the same x."""
        plan = self._last
        if plan is None:
            self._reference.backward(x, y, dy, dx)
            return
        # As the forward's arrays lie; and oneDNN reads neighbours' dy after it has
        # written their dx.
        x = _laid(x, plan.order)
        dy = _laid(dy, plan.order, copy=same_memory(dy, dx))
        out = dx if order_of(dx) == plan.order else empty_laid(dx.shape, plan.order)
        if plan.workspace is None:
            plan.backward(x, dy, out)
        else:
            plan.backward(x, dy, out, plan.workspace)
        if out is not dx:
            np.copyto(dx, out)


def _laid(array: Array, order: Shape, *, copy: bool = False) -> Array:
    """The array itself if it lies so, else (or if asked) a copy that does."""
    if order_of(array) == order and not copy:
        return array
    out = empty_laid(array.shape, order)
    np.copyto(out, array)
    return out
