"""Pooling on oneDNN, with Caffe's divisor where ceil rounding oversteps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from poseidon_caffe.backend.blob import empty_array
from poseidon_caffe.backend.cpu.dnnl import Alg, Arg, Desc, Dnnl, Primitive, Prop, Query
from poseidon_caffe.backend.cpu.layout import empty_laid, order_of, supported
from poseidon_caffe.backend.geometry import PoolGeometry
from poseidon_caffe.backend.reference.pool import ReferencePool
from poseidon_caffe.types import Array, Shape

__all__ = ["DnnlPool"]


@dataclass
class _Plan:
    """Both primitives for one layout of x and y (`order_of`)."""

    forward: Primitive
    backward: Primitive
    workspace: Array | None
    x_order: Shape
    y_order: Shape


def _edge_factor(size: int, out: int, kernel: int, stride: int, pad: int) -> float:
    """What the last window's mean must be multiplied by on one axis.

    oneDNN divides by the whole kernel; Caffe by the part inside the padded
    image, which only the last window can overstep.
    """
    inside = min(kernel, size + pad - ((out - 1) * stride - pad))
    return kernel / inside


class DnnlPool:
    """`PoolKernel` on oneDNN; masks and stochastic pooling go to the reference."""

    def __init__(self, geometry: PoolGeometry, dnnl: Dnnl) -> None:
        self.geometry = g = geometry
        self._dnnl = dnnl
        self._reference = ReferencePool(geometry)
        self._used_reference = False
        self._last: _Plan | None = None
        self._plans: dict[tuple[Shape, Shape], _Plan] = {}
        axes = list(
            zip(g.x_shape[2:], g.y_shape[2:], g.kernel, g.stride, g.pad, strict=True)
        )
        self._pad_right = tuple((y - 1) * s + k - x - p for x, y, k, s, p in axes)
        self._edges = tuple(
            _edge_factor(*axis) if g.method == "ave" else 1.0 for axis in axes
        )
        self._scaled: Array | None = None

    def _possible(self, x: Array, y: Array, mask: Array | None) -> bool:
        g = self.geometry
        fits = all(
            0 <= p < k and abs(r) < k
            for p, r, k in zip(g.pad, self._pad_right, g.kernel, strict=True)
        )
        return mask is None and fits and g.method != "stochastic" and supported(x, y)

    def _make(self, x: Array, y: Array) -> _Plan:
        g, dnnl = self.geometry, self._dnnl
        alg = Alg.POOL_MAX if g.method == "max" else Alg.POOL_AVG_PADDED
        src, dst = dnnl.desc_of(x), dnnl.desc_of(y)
        window = (g.stride, g.kernel, (0, 0), g.pad, self._pad_right)
        desc = dnnl.describe("pooling_forward", Prop.TRAINING, alg, src, dst, *window)
        back = dnnl.describe("pooling_backward", alg, src, dst, *window, desc)
        forward: dict[int, Desc] = {Arg.SRC: src, Arg.DST: dst}
        backward: dict[int, Desc] = {Arg.DIFF_DST: dst, Arg.DIFF_SRC: src}
        workspace = None
        if alg is Alg.POOL_MAX:
            kept = desc.desc(Query.WORKSPACE)
            forward[Arg.WORKSPACE] = backward[Arg.WORKSPACE] = kept
            workspace = empty_array(kept.size_bytes, np.uint8)
        return _Plan(
            Primitive(desc, forward), Primitive(back, backward), workspace,
            order_of(x), order_of(y),
        )  # fmt: skip

    def _plan(self, x: Array, y: Array) -> _Plan:
        layout = (order_of(x), order_of(y))
        plan = self._plans.get(layout)
        if plan is None:
            plan = self._plans[layout] = self._make(x, y)
        return plan

    def _scale_edges(self, y: Array) -> None:
        rows, cols = self._edges
        if rows != 1.0:
            y[:, :, -1] *= rows
        if cols != 1.0:
            y[:, :, :, -1] *= cols

    def forward(
        self, x: Array, y: Array, mask: Array | None = None, rng: Any = None
    ) -> None:
        """y = pooled x; see `PoolKernel.forward`."""
        self._used_reference = not self._possible(x, y, mask)
        if self._used_reference:
            self._reference.forward(x, y, mask, rng)
            return
        self._last = plan = self._plan(x, y)
        if plan.workspace is None:
            plan.forward(x, y)
            self._scale_edges(y)
        else:
            plan.forward(x, y, plan.workspace)

    def backward(self, dy: Array, dx: Array, mask: Array | None = None) -> None:
        """dx = gradient by what the last forward chose."""
        if self._used_reference or self._last is None:
            self._reference.backward(dy, dx, mask)
        elif self._last.workspace is not None:
            self._backward_max(self._last, self._last.workspace, dy, dx)
        elif self._possible(dx, dy, mask):
            self._backward_average(dy, dx)
        else:
            self._reference.backward(dy, dx, mask)

    def _backward_average(self, dy: Array, dx: Array) -> None:
        plan = self._plan(dx, dy)
        if self._edges != (1.0, 1.0):
            if self._scaled is None or self._scaled.strides != dy.strides:
                self._scaled = np.empty_like(dy)
            np.copyto(self._scaled, dy)
            self._scale_edges(self._scaled)
            dy = self._scaled
        plan.backward(dy, dx)

    def _backward_max(self, plan: _Plan, winners: Array, dy: Array, dx: Array) -> None:
        """By the last forward's winners; the gradients may be laid out otherwise."""
        top, bottom = dy, dx
        if order_of(dy) != plan.y_order:
            top = empty_laid(dy.shape, plan.y_order)
            np.copyto(top, dy)
        if order_of(dx) != plan.x_order:
            bottom = empty_laid(dx.shape, plan.x_order)
        plan.backward(top, bottom, winners)
        if bottom is not dx:
            np.copyto(dx, bottom)
