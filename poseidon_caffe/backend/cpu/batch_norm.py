"""Batch normalisation on oneDNN, with scale, shift and ReLU in the same pass."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from poseidon_caffe.backend.cpu.dnnl import (
    Arg,
    Desc,
    Dnnl,
    Primitive,
    PrimitiveDesc,
    Prop,
)
from poseidon_caffe.backend.cpu.layout import alike, supported
from poseidon_caffe.backend.geometry import BatchNormGeometry
from poseidon_caffe.backend.reference.batch_norm import ReferenceBatchNorm, same_memory
from poseidon_caffe.types import Array, Shape

__all__ = ["DnnlBatchNorm"]

_USE_STORED, _USE_SCALE, _USE_SHIFT, _FUSE_RELU = 1, 2, 4, 8
_Key: TypeAlias = tuple[Shape, bool]


class DnnlBatchNorm:
    """`BatchNormKernel` on oneDNN for 4- and 5-axis float32 arrays.

    Backward needs the forward's input, so an in-place training forward keeps a
    copy of it.
    """

    def __init__(self, geometry: BatchNormGeometry, dnnl: Dnnl) -> None:
        self.geometry = geometry
        self._dnnl = dnnl
        self._reference = ReferenceBatchNorm(geometry)
        self._used_reference = False
        self._forward: dict[_Key, tuple[PrimitiveDesc, Primitive]] = {}
        self._backward: dict[_Key, Primitive] = {}
        self._kept: Array | None = None

    def _flags(self, *, affine: bool) -> int:
        flags = _USE_STORED if self.geometry.use_stored else 0
        flags |= _USE_SCALE | _USE_SHIFT if affine else 0
        return flags | (_FUSE_RELU if self.geometry.relu else 0)

    def _channels(self) -> Desc:
        return self._dnnl.desc((self.geometry.x_shape[1],), (1,))

    def _forward_for(
        self, x: Array, *, affine: bool
    ) -> tuple[PrimitiveDesc, Primitive]:
        key = (x.strides, affine)
        if key not in self._forward:
            g, dnnl, data = self.geometry, self._dnnl, self._dnnl.desc_of(x)
            # A fused ReLU in training wants a workspace; stored moments do not.
            prop = Prop.INFERENCE if g.relu else Prop.TRAINING
            desc = dnnl.describe(
                "batch_normalization_forward", prop, data, data, float(g.eps),
                self._flags(affine=affine),
            )  # fmt: skip
            one = self._channels()
            operands: dict[int, Desc] = {
                Arg.SRC: data, Arg.DST: data, Arg.MEAN: one, Arg.VARIANCE: one,
            }  # fmt: skip
            if affine:
                operands |= {Arg.SCALE: one, Arg.SHIFT: one}
            self._forward[key] = (desc, Primitive(desc, operands))
        return self._forward[key]

    def forward(
        self,
        x: Array,
        y: Array,
        mean: Array,
        var: Array,
        scale: Array | None = None,
        shift: Array | None = None,
    ) -> None:
        """y = (x - mean) / sqrt(var + eps) [* scale + shift]."""
        g = self.geometry
        affine = g.affine and scale is not None
        whole = not affine or shift is not None
        self._used_reference = not (supported(x) and alike(x, y) and whole)
        if self._used_reference:
            self._reference.forward(x, y, mean, var, scale, shift)
            return
        if same_memory(x, y) and not g.inference and (affine or not g.use_stored):
            if self._kept is None or self._kept.strides != x.strides:
                self._kept = np.empty_like(x)
            np.copyto(self._kept, x)
            x = self._kept
        run = self._forward_for(x, affine=affine)[1]
        if affine and scale is not None and shift is not None:
            run(x, y, mean, var, scale, shift)
        else:
            run(x, y, mean, var)

    def _backward_for(self, x: Array, *, affine: bool) -> Primitive:
        key = (x.strides, affine)
        if key not in self._backward:
            g, dnnl, data = self.geometry, self._dnnl, self._dnnl.desc_of(x)
            hint = self._forward_for(x, affine=affine)[0]
            prop = Prop.BACKWARD if affine else Prop.BACKWARD_DATA
            desc = dnnl.describe(
                "batch_normalization_backward", prop, data, data, data, float(g.eps),
                self._flags(affine=affine), hint,
            )  # fmt: skip
            one = self._channels()
            operands: dict[int, Desc] = {
                Arg.SRC: data, Arg.DIFF_DST: data, Arg.DIFF_SRC: data,
                Arg.MEAN: one, Arg.VARIANCE: one,
            }  # fmt: skip
            if affine:
                operands |= {
                    Arg.SCALE: one, Arg.DIFF_SCALE: one, Arg.DIFF_SHIFT: one,
                }  # fmt: skip
            self._backward[key] = Primitive(desc, operands)
        return self._backward[key]

    def backward(
        self,
        x: Array,
        dy: Array,
        dx: Array,
        mean: Array,
        var: Array,
        scale: Array | None = None,
        dscale: Array | None = None,
        dshift: Array | None = None,
        *,
        in_place: bool = False,
    ) -> None:
        """dx from dy; dscale and dshift are overwritten."""
        if self._used_reference:
            self._reference.backward(
                x, dy, dx, mean, var, scale, dscale, dshift, in_place=in_place
            )
            return
        affine = self.geometry.affine and scale is not None
        kept = x
        if in_place and (affine or not self.geometry.use_stored):
            kept = self._kept if self._kept is not None else x
        slow = (
            self.geometry.relu
            or not alike(kept, dy, dx)
            or (affine and (dscale is None or dshift is None))
        )
        if slow:
            self._reference.backward(
                kept, dy, dx, mean, var, scale, dscale, dshift, in_place=False
            )
            return
        extra = [a for a in (scale, dscale, dshift) if affine and a is not None]
        self._backward_for(kept, affine=affine)(kept, dy, dx, mean, var, *extra)
