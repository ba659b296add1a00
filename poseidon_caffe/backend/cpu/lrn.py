"""Local response normalisation on oneDNN."""

from __future__ import annotations

from dataclasses import dataclass

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
from poseidon_caffe.types import Array, Shape

__all__ = ["DnnlLrn"]


@dataclass
class _Plan:
    """Both primitives for one layout (`order_of`) of all arrays."""

    forward: Primitive
    backward: Primitive
    workspace: Array | None
    order: Shape


class DnnlLrn:
    """`LrnKernel` across channels on oneDNN; the rest goes to the reference."""

    def __init__(self, geometry: LrnGeometry, dnnl: Dnnl) -> None:
        self.geometry = geometry
        self._dnnl = dnnl
        self._reference = ReferenceLrn(geometry)
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
        if not (self.geometry.across_channels and supported(x) and alike(x, y)):
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
