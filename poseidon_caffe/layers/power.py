"""Power: a scaled and shifted power of every element."""

from __future__ import annotations

from collections.abc import Sequence

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.layers.base import Example
from poseidon_caffe.layers.neuron import NeuronLayer
from poseidon_caffe.layers.registry import register

__all__ = ["Power"]


@register("Power")
class Power(NeuronLayer):
    """y = (shift + scale * x) ** power.

    Bottoms, tops: one of any shape; in place allowed.

    Caffe parity: exact out of place; in place Caffe's gradient is right only for
    powers 0 and 1, here it is for all.
    """

    backward_reads_top = False

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Raise; in place keeps a copy of the input."""
        p = self.param.power_param
        if p.power not in {0.0, 1.0}:
            self.saved.save(bottom[0], top[0])
        self.ops.power(bottom[0].data, top[0].data, p.power, p.scale, p.shift)

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """dx = dy power scale (shift + scale x) ** (power - 1)."""
        if propagate_down[0]:
            p = self.param.power_param
            x, y = self.saved.data(bottom[0]), top[0].data
            self.ops.power_backward(
                x, y, top[0].diff, bottom[0].diff, p.power, p.scale, p.shift
            )

    @classmethod
    def examples(cls) -> list[Example]:
        """Powers 1, 2, 3, 0, a fraction and a negative one."""

        def power(text: str, *, positive: bool = False) -> Example:
            param = f"power_param {{ {text} }}"
            return Example(param, in_place=True, positive=positive)

        return [
            power(""),
            power("scale: -2 shift: 1"),
            power("power: 2"),
            power("power: 3 scale: 0.5 shift: 2"),
            power("power: 0 shift: 1"),
            power("power: 0.5 shift: 1", positive=True),
            power("power: -0.75 scale: 0.3 shift: 1", positive=True),
        ]
