"""Pooling on oneDNN, with Caffe's divisor where ceil rounding oversteps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from poseidon_caffe.backend.cpu.dnnl import Alg, Arg, Desc, Dnnl, Primitive, Prop, Query
from poseidon_caffe.backend.cpu.layout import empty_laid, order_of, supported
from poseidon_caffe.backend.geometry import PoolGeometry
from poseidon_caffe.backend.memory import empty_array
from poseidon_caffe.backend.reference.pool import ReferencePool
from poseidon_caffe.types import Array, Shape

__all__ = ["DnnlPool"]

_BYTE = 256
_LOWEST = np.finfo(np.float32).min


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
    # A window outside the image is left to the reference (`_possible`).
    return kernel / inside if inside > 0 else 1.0


class DnnlPool:
    """`PoolKernel` on oneDNN; what it cannot take goes to the reference.

    A mask of winners is read off the workspace in which oneDNN keeps each winner's
    place in its window.
    """

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
        self._mask: Array | None = None

    def _possible(self, x: Array, y: Array) -> bool:
        g = self.geometry
        fits = all(
            0 <= p < k and abs(r) < k
            for p, r, k in zip(g.pad, self._pad_right, g.kernel, strict=True)
        )
        return fits and supported(x, y)

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
        self._mask = None
        self._used_reference = not self._possible(x, y) or (
            mask is not None and not self._readable(y)
        )
        if self._used_reference:
            self._reference.forward(x, y, mask, rng)
            return
        self._last = plan = self._plan(x, y)
        if plan.workspace is None:
            plan.forward(x, y)
            self._scale_edges(y)
        else:
            plan.forward(x, y, plan.workspace)
            if mask is not None and plan.workspace.size != y.size:
                # Not the bytes in the order of y that `_read_mask` knows.
                self._used_reference = True
                self._reference.forward(x, y, mask)
            elif mask is not None:
                places, everywhere = self._read_mask(plan.workspace, y)
                np.copyto(mask, places)
                # oneDNN would give the gradients of nobody's windows to somebody.
                self._mask = places if everywhere else None

    def _readable(self, y: Array) -> bool:
        """Whether the workspace has a byte for each element of ``y``, in its order."""
        g = self.geometry
        inside = all(
            (n - 1) * s - p < x
            for n, s, p, x in zip(
                g.y_shape[2:], g.stride, g.pad, g.x_shape[2:], strict=True
            )
        )
        last = y.strides[1] == y.itemsize and g.kernel[0] * g.kernel[1] < _BYTE
        return inside and last and g.method == "max"

    def _read_mask(self, workspace: Array, y: Array) -> tuple[Array, bool]:
        """Winners' places in their planes, and whether every window has a winner.

        ``y`` is channels-last.
        """
        g, width = self.geometry, self.geometry.x_shape[3]
        n, c, h, w = g.y_shape
        codes = workspace[: y.size].reshape(n, h, w, c)
        taps = np.arange(g.kernel[0] * g.kernel[1])
        offsets = taps // g.kernel[1] * width + taps % g.kernel[1]
        rows, cols = (np.arange(g.y_shape[i + 2]) * g.stride[i] - g.pad[i]
                      for i in range(2))  # fmt: skip
        first = (rows[:, None] * width + cols).astype(np.float32)
        places = np.take(offsets.astype(np.float32), codes)
        places += first[:, :, None]
        # Nothing beats what the search starts from, so nobody won there.
        nobody = np.moveaxis(y, 1, 3) == _LOWEST
        places[nobody] = -1
        return np.moveaxis(places, 3, 1), not nobody.any()

    def backward(self, dy: Array, dx: Array, mask: Array | None = None) -> None:
        """dx = gradient by what the last forward chose."""
        if self._used_reference or self._last is None:
            self._reference.backward(dy, dx, mask)
        elif mask is not None and (
            self._mask is None or not np.array_equal(mask, self._mask)
        ):
            # Somebody wrote there, or the workspace does not say the same.
            self._reference.backward(dy, dx, mask)
        elif self._last.workspace is not None:
            self._backward_max(self._last, self._last.workspace, dy, dx)
        elif self._possible(dx, dy):
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
