"""InnerProduct: the fully connected layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.errors import LayerError
from poseidon_caffe.layers.base import Example, LayerContext, Storage
from poseidon_caffe.layers.gradients import param_gradients
from poseidon_caffe.layers.layout import PlainView
from poseidon_caffe.layers.rectifying import Rectifying
from poseidon_caffe.layers.registry import register
from poseidon_caffe.types import Array, Shape

__all__ = ["InnerProduct"]


@register("InnerProduct")
class InnerProduct(Rectifying):
    """y = x w^T + bias, each bottom flattened from ``axis`` on.

    Bottoms: (outer..., inner...); K = product of the inner axes, in C order.
    Tops: (outer..., num_output).
    Params: weights (num_output, K), or (K, num_output) with ``transpose``; bias
    (num_output,) unless ``bias_term: false``.

    Caffe parity: exact.
    """

    storage = Storage.HALF
    backward_reads_top = False

    num_bottom = 1
    num_top = 1

    def __init__(self, param: Any, context: LayerContext) -> None:
        super().__init__(param, context)
        self._m, self._k, self._n = 0, 0, 0
        self._x_view = PlainView(self.ops, context.dtype)
        self._dx_view = PlainView(self.ops, context.dtype)
        self._y_view = PlainView(self.ops, context.dtype)
        self._factors: tuple[Array, Array] | None = None
        self._wide = [Blob(dtype=context.dtype, memory=self.ops.memory) for _ in "yx"]
        #: Transposed weights' gradient is the product the other way round.
        self.offers_factors = not param.inner_product_param.transpose
        #: Backward keeps the factors but leaves the parameters' gradients alone.
        self.defer_gradient = False

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Make weights and bias."""
        p = self.param.inner_product_param
        if p.num_output < 1:
            raise LayerError(self.describe("num_output must be given and positive"))
        axis = bottom[0].canonical_axis(p.axis)
        self._n, self._k = p.num_output, math.prod(bottom[0].shape[axis:])
        shape = (self._k, self._n) if p.transpose else (self._n, self._k)
        self.add_param(shape, p.weight_filler)
        if p.bias_term:
            self.add_param((self._n,), p.bias_filler)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """The inner size must stay what the weights were made for."""
        axis = bottom[0].canonical_axis(self.param.inner_product_param.axis)
        shape = bottom[0].shape
        inner = math.prod(shape[axis:])
        if inner != self._k:
            problem = (
                f"needs {self._k} inputs for weights {self.blobs[0].shape}, not {inner}"
            )
            raise self.shape_error(problem, bottom)
        self._m = math.prod(shape[:axis])
        self._factors = None
        top[0].reshape((*shape[:axis], self._n))

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """One matrix product, bias added."""
        self._factors = None
        x = self._x_view.read(bottom[0].data, (self._m, self._k))
        y = self._y_view.target(top[0].data, (self._m, self._n))
        bias = self.blobs[1].data if len(self.blobs) > 1 else None
        transpose = self.param.inner_product_param.transpose
        self.ops.inner_product(
            x, self.blobs[0].data, bias, y, transpose=transpose, relu=self.fused_relu
        )
        self._y_view.write_back(y, top[0].data)

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """Two matrix products and a column sum; with ``defer_gradient`` one product.

        Where a ReLU's backward is begun with, the column sum comes of that.
        """
        transpose = self.param.inner_product_param.transpose
        wanted = list(self.param_propagate_down)
        if self.rectifies_backward:
            adds = len(self.blobs) > 1 and wanted[1] and not self.defer_gradient
            bias = self.blobs[1] if adds else None
            if self.rectify_diff(top[0], bias, (self._m, self._n)):
                wanted[1] = False
        dy = self._y_view.read(top[0].diff, (self._m, self._n))
        if any(self.param_propagate_down):
            x = self._x_view.read(bottom[0].data, (self._m, self._k))
            self._factors = (dy, x)
            if not self.defer_gradient:
                self._backward_params(x, dy, wanted, transpose=transpose)
        if propagate_down[0]:
            dx = self._dx_view.target(bottom[0].diff, (self._m, self._k))
            weights = self.blobs[0].data
            self.ops.inner_product_backward_data(dy, weights, dx, transpose=transpose)
            self._dx_view.write_back(dx, bottom[0].diff)

    def _backward_params(
        self, x: Array, dy: Array, wanted: Sequence[bool], *, transpose: bool
    ) -> None:
        grads, accumulate = param_gradients(self.blobs, wanted)
        dw, db = grads[0], grads[1] if len(grads) > 1 else None
        if dw is not None:
            self.ops.inner_product_backward_weights(
                x, dy, dw, db, transpose=transpose, accumulate=accumulate
            )
        elif db is not None:
            self.ops.sum_outer(dy, 1, db.shape, db, accumulate=accumulate)

    def factors(self) -> tuple[Array, Array] | None:
        """(top diff (M, N), bottom matrix (M, K)) of the last backward.

        Their product dy^T x is the weight gradient, the column sums of dy the bias
        gradient.  None between a forward and its backward, for parameters that want
        no gradient, and unless `offers_factors`.  The arrays are live until the
        layer's next forward; in a net whose blobs share memory only until the next
        layer's backward, so copy them in ``grad_ready`` or ``factors_ready``.
        """
        if self._factors is None or not self.offers_factors:
            return None
        dy, x = map(self._as_params, self._factors, self._wide)
        return dy, x

    def _as_params(self, factor: Array, wide: Blob) -> Array:
        """A factor in the parameters' type, which their gradients have."""
        if factor.dtype == self.context.dtype:
            return factor
        wide.reshape(factor.shape)
        self.ops.copy(factor, wide.data)
        return wide.data

    @classmethod
    def examples(cls) -> list[Example]:
        """With and without bias, other axes, transposed weights."""

        def product(text: str, shape: Shape = (2, 3, 2, 2)) -> Example:
            fill = 'weight_filler { type: "xavier" } bias_filler { type: "uniform" }'
            param = f"inner_product_param {{ {text} {fill} }}"
            return Example(param, bottoms=(shape,))

        return [
            product("num_output: 4"),
            product("num_output: 4", (5, 6)),
            product("num_output: 4 bias_term: false"),
            product("num_output: 4 axis: 2", (2, 3, 4)),
            product("num_output: 4 axis: -1"),
            product("num_output: 4 transpose: true"),
        ]
