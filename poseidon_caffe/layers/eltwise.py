"""Eltwise: several blobs of one shape made one, element by element."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.errors import LayerError
from poseidon_caffe.layers.base import Example, LayerContext, Storage
from poseidon_caffe.layers.neuron import SavedInput
from poseidon_caffe.layers.rectifying import Rectifying
from poseidon_caffe.layers.registry import register

__all__ = ["Eltwise"]

_PROD, _SUM, _MAX = range(3)


@register("Eltwise")
class Eltwise(Rectifying):
    """PROD: y = product of x_i.  SUM: y = sum of coeff_i x_i.  MAX: y = largest x_i.

    Bottoms: two or more of one shape.  Tops: the same shape.

    ``coeff`` (SUM only) is 1 for every bottom unless given for each.
    ``stable_prod_grad: false`` computes a product's gradient as y / x_i * dy, faster
    but without value where x_i is 0.

    Caffe parity: exact.  Of equal values the MAX gradient goes to the second of
    the first two bottoms, else to the earlier one.
    """

    storage = Storage.BOTTOM
    min_bottom = 2
    num_top = 1

    def __init__(self, param: Any, context: LayerContext) -> None:
        super().__init__(param, context)
        p = param.eltwise_param
        self._operation = int(p.operation)
        # A product's gradient needs factors and product, a maximum's its sources.
        self.backward_reads_bottom = self._operation != _SUM
        self.backward_reads_top = self._operation == _PROD
        self._stable = bool(p.stable_prod_grad)
        self._coeffs = [float(c) for c in p.coeff] or [1.0] * len(param.bottom)
        self._saved = SavedInput(self)

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Coefficients are for sums, one a bottom; MAX ignores them, as in Caffe."""
        given = len(self.param.eltwise_param.coeff)
        if given and given != len(bottom):
            problem = f"has {given} coeff for {len(bottom)} bottoms (give all or none)"
            raise LayerError(self.describe(problem))
        if given and self._operation == _PROD:
            raise LayerError(self.describe("coeff is for operation SUM, not PROD"))

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """All bottoms have one shape."""
        if any(blob.shape != bottom[0].shape for blob in bottom):
            raise self.shape_error("all bottoms must have one shape", bottom)
        top[0].reshape(bottom[0].shape)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Combine (and apply a fused ReLU)."""
        srcs, y = [blob.data for blob in bottom], top[0].data
        if self._operation == _SUM:
            self.ops.add(srcs, y, self._coeffs, self.fused_relu)
            return
        if self._operation == _PROD:
            self.ops.multiply(srcs, y)
        else:
            self._saved.save(bottom[0], top[0])
            self.ops.maximum(srcs, y)
        if self.fused_relu is not None:
            self.ops.relu(y, y, self.fused_relu)

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """Each bottom's part of the gradient."""
        dy = top[0].diff
        if self.rectifies_backward:
            if self._operation == _SUM and set(self._coeffs) == {1.0}:
                self._hand_on(top[0], propagate_down, bottom)
                return
            assert self.fused_relu is not None
            self.ops.relu_backward(top[0].data, dy, dy, self.fused_relu)
        srcs = [self._saved.data(bottom[0]), *(blob.data for blob in bottom[1:])]
        # The first bottom last: its diff may be the top's.
        for i, blob in reversed(list(enumerate(bottom))):
            if not propagate_down[i]:
                continue
            if self._operation == _PROD:
                self._backward_product(i, top, bottom)
            elif self._operation == _MAX:
                self.ops.maximum_backward(srcs, i, dy, blob.diff)
            elif self._coeffs[i] == 1.0:
                self.ops.copy(dy, blob.diff)
            else:
                self.ops.add([dy], blob.diff, [self._coeffs[i]])

    def _hand_on(
        self, top: Blob, propagate_down: Sequence[bool], bottom: Sequence[Blob]
    ) -> None:
        """Every bottom's gradient is what a fused ReLU lets through of the top's."""
        wanted = [
            b.diff for b, need in zip(bottom, propagate_down, strict=True) if need
        ]
        if not wanted:
            return
        assert self.fused_relu is not None
        # The first may be the top's own, so all that is read of it is read here.
        first, second = wanted[0], wanted[1] if len(wanted) > 1 else None
        self.ops.relu_backward(top.data, top.diff, first, self.fused_relu, second)
        for diff in wanted[2:]:
            self.ops.copy(first, diff)

    def _backward_product(
        self, i: int, top: Sequence[Blob], bottom: Sequence[Blob]
    ) -> None:
        """dx_i = dy times the other bottoms."""
        dx, dy = bottom[i].diff, top[0].diff
        if self._stable:
            others = [blob.data for j, blob in enumerate(bottom) if j != i]
            self.ops.multiply([dy, *others], dx)
        else:
            self.ops.power(bottom[i].data, dx, -1.0, 1.0, 0.0)
            self.ops.multiply([dx, top[0].data, dy], dx)

    @property
    def passes_gradient(self) -> bool:
        """Whether the first bottom's gradient is the top's, unchanged."""
        return self._operation == _SUM and self._coeffs[0] == 1.0

    # -- fusing ------------------------------------------------------------------
    @property
    def can_fuse_relu(self) -> bool:
        """Whether forward can also do the ReLU that follows in place."""
        return self._stable or self._operation != _PROD

    @classmethod
    def examples(cls) -> list[Example]:
        """Every operation with two and three bottoms."""

        def eltwise(text: str, count: int = 3) -> Example:
            shapes = ((2, 3, 4, 5),) * count
            return Example(f"eltwise_param {{ {text} }}", bottoms=shapes)

        return [
            eltwise("", 2),
            eltwise("operation: SUM coeff: 1 coeff: -2 coeff: 0.5"),
            eltwise("operation: PROD", 2),
            eltwise("operation: PROD"),
            Example(
                "eltwise_param { operation: PROD stable_prod_grad: false }",
                bottoms=((2, 3),) * 3,
                kink=0.1,
            ),
            eltwise("operation: MAX", 2),
            eltwise("operation: MAX"),
        ]
