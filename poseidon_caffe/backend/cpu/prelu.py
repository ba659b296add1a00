"""Rectifiers with a slope for each channel, on oneDNN."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from poseidon_caffe.backend.cpu.dnnl import Arg, Desc, Dnnl, Primitive, Prop
from poseidon_caffe.backend.cpu.layout import alike, dense, order_of
from poseidon_caffe.backend.reference.activation import ReferenceActivation
from poseidon_caffe.types import Array, Shape

__all__ = ["DnnlPrelu"]


class _Pair(NamedTuple):
    """Both primitives for one shape and layout, and a buffer for the slopes' part."""

    forward: Primitive
    backward: Primitive
    dslope: Array


class DnnlPrelu(ReferenceActivation):
    """PReLU of `ActivationOps` on oneDNN, if all arrays lie alike."""

    dnnl: Dnnl

    def __init__(self) -> None:
        super().__init__()
        self._prelus: dict[tuple[Shape, Shape], _Pair] = {}

    def prelu(self, x: Array, slope: Array, y: Array) -> None:
        """y = x where x > 0, else slope[c] * x; slope has shape (C,) or (1,)."""
        if _fast(x, slope, y):
            self._prelu_pair(x).forward(x, _for_each_channel(slope, x), y)
        else:
            super().prelu(x, slope, y)

    def prelu_backward(
        self, x: Array, slope: Array, dy: Array, dx: Array | None, dslope: Array | None
    ) -> None:
        """dx, and dslope (accumulated: += ), each when given."""
        if dx is None or not _fast(x, slope, dy, dx):
            super().prelu_backward(x, slope, dy, dx, dslope)
            return
        pair = self._prelu_pair(x)
        # oneDNN reads dy again for the slopes after it has written dx.
        given = dy.copy(order="K") if np.may_share_memory(dy, dx) else dy
        pair.backward(x, _for_each_channel(slope, x), dx, pair.dslope, given)
        if dslope is not None and dslope.size == pair.dslope.size:
            dslope += pair.dslope
        elif dslope is not None:
            dslope += pair.dslope.sum(dtype=np.float64).astype(dslope.dtype)

    def _prelu_pair(self, x: Array) -> _Pair:
        key = (x.shape, order_of(x))
        if key not in self._prelus:
            dnnl, data = self.dnnl, self.dnnl.desc_of(x)
            channels, ones = x.shape[1], (1,) * (x.ndim - 2)
            weights = dnnl.desc((1, channels, *ones), (channels, 1, *ones))
            forward = dnnl.describe("prelu_forward", Prop.TRAINING, data, weights, data)
            backward = dnnl.describe(
                "prelu_backward", data, weights, data, weights, data, forward
            )
            into: dict[int, Desc] = {
                Arg.SRC: data, Arg.WEIGHTS: weights, Arg.DST: data,
            }  # fmt: skip
            back: dict[int, Desc] = {
                Arg.SRC: data, Arg.WEIGHTS: weights, Arg.DIFF_SRC: data,
                Arg.DIFF_WEIGHTS: weights, Arg.DIFF_DST: data,
            }  # fmt: skip
            self._prelus[key] = _Pair(
                Primitive(forward, into),
                Primitive(backward, back),
                np.zeros(channels, np.float32),
            )
        return self._prelus[key]


def _for_each_channel(slope: Array, x: Array) -> Array:
    """One slope a channel: oneDNN is a hundred times slower with one for all."""
    return slope if slope.size == x.shape[1] else np.repeat(slope, x.shape[1])


def _fast(x: Array, slope: Array, *others: Array) -> bool:
    """Whether oneDNN's kernels take the arrays."""
    return x.ndim > 1 and dense(slope) and alike(x, *others)
