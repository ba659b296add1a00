"""PReLU: a leaky ReLU whose slopes are learned."""

from __future__ import annotations

from collections.abc import Sequence

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.layers.base import Example
from poseidon_caffe.layers.neuron import NeuronLayer
from poseidon_caffe.layers.registry import register
from poseidon_caffe.schema.messages import FillerParameter

__all__ = ["PReLU"]

_FIRST_SLOPE = 0.25


@register("PReLU")
class PReLU(NeuronLayer):
    """y = x where x > 0, slope[c] * x elsewhere.

    Bottoms, tops: one (N, C, ...); in place allowed.
    Params: slopes (C,), or a scalar with ``channel_shared``; 0.25 unless ``filler``
    says otherwise.

    Caffe parity: exact.
    """

    backward_reads_top = False

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Make the slopes."""
        p = self.param.prelu_param
        if len(bottom[0].shape) < 2:
            raise self.shape_error("needs at least 2 axes (N, C)", bottom)
        filler = p.filler if p.HasField("filler") else None
        if filler is None:
            filler = FillerParameter(type="constant", value=_FIRST_SLOPE)
        shape = () if p.channel_shared else (bottom[0].shape[1],)
        self.add_param(shape, filler)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Channels must stay those of the slopes."""
        shape, slopes = bottom[0].shape, self.blobs[0].shape
        if len(shape) < 2 or (slopes and shape[1] != slopes[0]):
            raise self.shape_error(f"has slopes of shape {slopes}", bottom)
        super().reshape(bottom, top)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Rectify with slopes; in place keeps a copy of the input."""
        self.saved.save(bottom[0], top[0])
        slope = self.blobs[0].data.reshape(-1)
        self.ops.prelu(bottom[0].data, slope, top[0].data)

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """Gradients of the slopes (summed over a channel) and of x."""
        wanted = self.param_propagate_down[0]
        if not (wanted or propagate_down[0]):
            return
        self.ops.prelu_backward(
            self.saved.data(bottom[0]),
            self.blobs[0].data.reshape(-1),
            top[0].diff,
            bottom[0].diff if propagate_down[0] else None,
            self.blobs[0].diff.reshape(-1) if wanted else None,
        )

    @classmethod
    def examples(cls) -> list[Example]:
        """One slope a channel, and one for all."""
        shared = "prelu_param { channel_shared: true filler { value: 0.1 } }"
        return [
            Example(in_place=True, kink=0.05),
            Example(bottoms=((4, 3),), kink=0.05),
            Example(shared, in_place=True, kink=0.05),
        ]
