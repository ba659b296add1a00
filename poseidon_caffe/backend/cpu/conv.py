"""Convolution on oneDNN: primitives made once, weights packed once per change.

oneDNN's fast kernels want activations channels-last and dense (a strided view,
such as a slice of a Concat, falls to its reference code: 340 times slower) and
weights in blocked orders of their own.  Weights stay in Caffe's plain order for
everybody else; `_Packed` holds the reordered copy of each use.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from poseidon_caffe.backend.cpu.dnnl import (
    ANY,
    Alg,
    Arg,
    Desc,
    Dnnl,
    Primitive,
    PrimitiveDesc,
    Prop,
    Query,
)
from poseidon_caffe.backend.cpu.layout import supported
from poseidon_caffe.backend.geometry import ConvGeometry
from poseidon_caffe.backend.memory import empty_array
from poseidon_caffe.backend.reference.conv import ReferenceConv
from poseidon_caffe.backend.reference.workspace import Workspace
from poseidon_caffe.types import Array, Shape

__all__ = ["DnnlConv"]


class _Packed:
    """Weights in a kernel's own order, refreshed when their version changes."""

    def __init__(self, dnnl: Dnnl, plain: Desc, wanted: Desc) -> None:
        self._reorder = dnnl.reorder(plain, wanted)
        self._array = empty_array(wanted.size_bytes // 4)
        self._key: int | None = None

    def __call__(self, w: Array, key: int | None) -> Array:
        if key is None or key != self._key:
            self._reorder(w, self._array)
            self._key = key
        return self._array


@dataclass
class _Forward:
    """Forward for one layout; ``desc`` is the hint backward descriptors need."""

    desc: PrimitiveDesc
    run: Primitive
    pack: _Packed


@dataclass
class _BackwardData:
    run: Primitive
    pack: _Packed


@dataclass
class _BackwardWeights:
    run: Primitive
    store: Primitive
    add: Primitive
    packed: Array
    bias: Array


class DnnlConv:
    """`ConvKernel` on oneDNN; what it cannot describe goes to the reference."""

    def __init__(
        self, geometry: ConvGeometry, dnnl: Dnnl, workspace: Workspace
    ) -> None:
        self.geometry = geometry
        self._dnnl = dnnl
        self._fallback = ReferenceConv(geometry, workspace)
        g = geometry
        self._strides = g.stride
        self._dilates = tuple(d - 1 for d in g.dilation)
        self._pad_left = g.pad
        self._pad_right = tuple(
            (y - 1) * s + d * (k - 1) + 1 - x - p
            for x, y, k, s, p, d in zip(
                g.x_shape[2:], g.y_shape[2:], g.kernel, g.stride, g.pad, g.dilation,
                strict=True,
            )
        )  # fmt: skip
        self._forward: dict[tuple[Shape, Shape], _Forward] = {}
        self._backward_data: dict[tuple[Shape, Shape], _BackwardData] = {}
        self._backward_weights: dict[tuple[Shape, Shape], _BackwardWeights] = {}

    # -- descriptors ---------------------------------------------------------------
    def _weights_shape(self) -> Shape:
        g = self.geometry
        if g.group == 1:
            return g.w_shape
        return (g.group, g.num_output // g.group, *g.w_shape[1:])

    def _plain_weights(self) -> Desc:
        shape = self._weights_shape()
        strides = [1] * len(shape)
        for i in reversed(range(len(shape) - 1)):
            strides[i] = strides[i + 1] * shape[i + 1]
        return self._dnnl.desc(shape, strides)

    def _any_weights(self) -> Desc:
        return self._dnnl.desc(self._weights_shape(), ANY)

    def _bias(self) -> Desc | None:
        g = self.geometry
        return self._dnnl.desc((g.num_output,), (1,)) if g.bias else None

    def _window(self) -> tuple[Shape, Shape, Shape, Shape]:
        return (self._strides, self._dilates, self._pad_left, self._pad_right)

    # -- forward -------------------------------------------------------------------
    def _make_forward(self, x: Array, y: Array) -> _Forward:
        dnnl, bias = self._dnnl, self._bias()
        src, dst = dnnl.desc_of(x), dnnl.desc_of(y)
        attr = dnnl.attr(relu=self.geometry.relu)
        desc = dnnl.describe(
            "convolution_forward", Prop.TRAINING, Alg.CONV_DIRECT,
            src, self._any_weights(), bias, dst, *self._window(), attr=attr,
        )  # fmt: skip
        weights = desc.desc(Query.WEIGHTS)
        operands: dict[int, Desc] = {Arg.SRC: src, Arg.WEIGHTS: weights, Arg.DST: dst}
        if bias is not None:
            operands[Arg.BIAS] = bias
        pack = _Packed(dnnl, self._plain_weights(), weights)
        return _Forward(desc, Primitive(desc, operands), pack)

    def _forward_for(self, x: Array, y: Array) -> _Forward:
        layout = (x.strides, y.strides)
        made = self._forward.get(layout)
        if made is None:
            made = self._forward[layout] = self._make_forward(x, y)
        return made

    def forward(
        self, x: Array, w: Array, b: Array | None, y: Array, key: int | None = None
    ) -> None:
        """y = relu?(conv(x, w) + b)."""
        if not supported(x, y):
            self._fallback.forward(x, w, b, y, key)
            return
        made = self._forward_for(x, y)
        weights = made.pack(w, key)
        if b is None:
            made.run(x, weights, y)
        else:
            made.run(x, weights, y, b)

    # -- backward --------------------------------------------------------------------
    def _hint(self, x: Array, dy: Array) -> PrimitiveDesc:
        return self._forward_for(x, dy).desc

    def _make_backward_data(self, dy: Array, dx: Array) -> _BackwardData:
        dnnl = self._dnnl
        src, dst = dnnl.desc_of(dx), dnnl.desc_of(dy)
        desc = dnnl.describe(
            "convolution_backward_data", Alg.CONV_DIRECT, src, self._any_weights(),
            dst, *self._window(), self._hint(dx, dy),
        )  # fmt: skip
        weights = desc.desc(Query.WEIGHTS)
        run = Primitive(
            desc, {Arg.DIFF_DST: dst, Arg.WEIGHTS: weights, Arg.DIFF_SRC: src}
        )
        return _BackwardData(run, _Packed(dnnl, self._plain_weights(), weights))

    def backward_data(
        self, dy: Array, w: Array, dx: Array, key: int | None = None
    ) -> None:
        """dx = the gradient with respect to x."""
        if not supported(dy, dx):
            self._fallback.backward_data(dy, w, dx, key)
            return
        layout = (dy.strides, dx.strides)
        made = self._backward_data.get(layout)
        if made is None:
            made = self._backward_data[layout] = self._make_backward_data(dy, dx)
        made.run(dy, made.pack(w, key), dx)

    def _make_backward_weights(self, x: Array, dy: Array) -> _BackwardWeights:
        dnnl, bias, plain = self._dnnl, self._bias(), self._plain_weights()
        src, dst = dnnl.desc_of(x), dnnl.desc_of(dy)
        desc = dnnl.describe(
            "convolution_backward_weights", Alg.CONV_DIRECT, src, self._any_weights(),
            bias, dst, *self._window(), self._hint(x, dy),
        )  # fmt: skip
        weights = desc.desc(Query.DIFF_WEIGHTS)
        operands: dict[int, Desc] = {
            Arg.SRC: src, Arg.DIFF_DST: dst, Arg.DIFF_WEIGHTS: weights,
        }  # fmt: skip
        if bias is not None:
            operands[Arg.DIFF_BIAS] = bias
        return _BackwardWeights(
            Primitive(desc, operands),
            dnnl.reorder(weights, plain),
            dnnl.reorder(weights, plain, accumulate=True),
            empty_array(weights.size_bytes // 4),
            empty_array(self.geometry.num_output),
        )

    def backward_weights(
        self, x: Array, dy: Array, dw: Array, db: Array | None, *, accumulate: bool
    ) -> None:
        """dw (+)= gradient of the weights; db likewise when given."""
        if not supported(x, dy):
            self._fallback.backward_weights(x, dy, dw, db, accumulate=accumulate)
            return
        layout = (x.strides, dy.strides)
        made = self._backward_weights.get(layout)
        if made is None:
            made = self._backward_weights[layout] = self._make_backward_weights(x, dy)
        if self.geometry.bias:
            target = made.bias if accumulate or db is None else db
            made.run(x, dy, made.packed, target)
            if accumulate and db is not None:
                np.add(db, made.bias, out=db)
        else:
            made.run(x, dy, made.packed)
        (made.add if accumulate else made.store)(made.packed, dw)
