"""ReLU, plain and leaky."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.layers.base import Example, LayerContext
from poseidon_caffe.layers.neuron import NeuronLayer
from poseidon_caffe.layers.registry import register

__all__ = ["ReLU"]


@register("ReLU")
class ReLU(NeuronLayer):
    """y = max(x, 0) + negative_slope * min(x, 0).

    Bottoms, tops: one of any shape; in place allowed.

    Caffe parity: exact; the gradient at 0 is ``negative_slope``.
    """

    def __init__(self, param: Any, context: LayerContext) -> None:
        super().__init__(param, context)
        # Only a negative slope needs the input's sign.
        self.backward_reads_bottom = self.slope < 0

    @property
    def slope(self) -> float:
        """The negative slope."""
        return float(self.param.relu_param.negative_slope)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Rectify, unless the layer before has done it (`skip_forward`)."""
        if not self.skip_forward:
            self.ops.relu(bottom[0].data, top[0].data, self.slope)

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """dx = dy, times the slope where x <= 0 (unless `skip_backward`)."""
        if not propagate_down[0] or self.skip_backward:
            return
        # The output's sign is the input's unless the slope is negative.
        seen = top[0].data if self.slope >= 0 else bottom[0].data
        self.ops.relu_backward(seen, top[0].diff, bottom[0].diff, self.slope)

    @classmethod
    def examples(cls) -> list[Example]:
        """Plain and leaky."""
        return [
            Example(in_place=True, kink=0.05),
            Example(
                "relu_param { negative_slope: 0.1 }",
                bottoms=((2, 5),),
                in_place=True,
                kink=0.05,
            ),
            Example("relu_param { negative_slope: -0.3 }", kink=0.05),
        ]
