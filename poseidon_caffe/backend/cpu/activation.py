"""Non-linearities on oneDNN: arrays laid out alike run as one flat vector."""

from __future__ import annotations

from poseidon_caffe.backend.cpu.dnnl import (
    Alg,
    Arg,
    Desc,
    Dnnl,
    Primitive,
    PrimitiveDesc,
    Prop,
)
from poseidon_caffe.backend.cpu.layout import alike
from poseidon_caffe.backend.reference.activation import ReferenceActivation
from poseidon_caffe.types import Array

__all__ = ["CpuActivation"]

_Key = tuple[str, int, Alg, float]


class CpuActivation(ReferenceActivation):
    """`ActivationOps` with the common ones on oneDNN."""

    dnnl: Dnnl

    def __init__(self) -> None:
        super().__init__()
        self._flat: dict[_Key, tuple[PrimitiveDesc, Primitive]] = {}

    def _eltwise(self, count: int, alg: Alg, alpha: float) -> Primitive:
        return self._eltwise_pair(count, alg, alpha)[1]

    def _eltwise_pair(
        self, count: int, alg: Alg, alpha: float
    ) -> tuple[PrimitiveDesc, Primitive]:
        key = ("forward", count, alg, alpha)
        if key not in self._flat:
            flat = self.dnnl.desc((count,), (1,))
            desc = self.dnnl.describe(
                "eltwise_forward", Prop.TRAINING, alg, flat, flat, float(alpha), 0.0
            )
            operands: dict[int, Desc] = {Arg.SRC: flat, Arg.DST: flat}
            self._flat[key] = (desc, Primitive(desc, operands))
        return self._flat[key]

    def _eltwise_backward(self, count: int, alg: Alg, alpha: float) -> Primitive:
        key = ("backward", count, alg, alpha)
        if key not in self._flat:
            flat = self.dnnl.desc((count,), (1,))
            hint = self._eltwise_pair(count, alg, alpha)[0]
            desc = self.dnnl.describe(
                "eltwise_backward", alg, flat, flat, flat, float(alpha), 0.0, hint
            )
            operands: dict[int, Desc] = {
                Arg.DST: flat, Arg.DIFF_DST: flat, Arg.DIFF_SRC: flat,
            }  # fmt: skip
            self._flat[key] = (desc, Primitive(desc, operands))
        return self._flat[key][1]

    def relu(self, x: Array, y: Array, slope: float = 0.0) -> None:
        """y = max(x, 0) + slope * min(x, 0)."""
        if alike(x, y):
            self._eltwise(x.size, Alg.RELU, slope)(x, y)
        else:
            super().relu(x, y, slope)

    def relu_backward(self, y: Array, dy: Array, dx: Array, slope: float = 0.0) -> None:
        """dx = dy where y > 0, slope * dy elsewhere."""
        if slope >= 0 and alike(y, dy, dx):
            self._eltwise_backward(y.size, Alg.RELU_DST, slope)(y, dy, dx)
        else:
            super().relu_backward(y, dy, dx, slope)

    def sigmoid(self, x: Array, y: Array) -> None:
        """y = 1 / (1 + exp(-x))."""
        if alike(x, y):
            self._eltwise(x.size, Alg.LOGISTIC, 0.0)(x, y)
        else:
            super().sigmoid(x, y)

    def sigmoid_backward(self, y: Array, dy: Array, dx: Array) -> None:
        """dx = dy * y * (1 - y)."""
        if alike(y, dy, dx):
            self._eltwise_backward(y.size, Alg.LOGISTIC_DST, 0.0)(y, dy, dx)
        else:
            super().sigmoid_backward(y, dy, dx)

    def tanh(self, x: Array, y: Array) -> None:
        """y = tanh(x)."""
        if alike(x, y):
            self._eltwise(x.size, Alg.TANH, 0.0)(x, y)
        else:
            super().tanh(x, y)

    def tanh_backward(self, y: Array, dy: Array, dx: Array) -> None:
        """dx = dy * (1 - y^2)."""
        if alike(y, dy, dx):
            self._eltwise_backward(y.size, Alg.TANH_DST, 0.0)(y, dy, dx)
        else:
            super().tanh_backward(y, dy, dx)
