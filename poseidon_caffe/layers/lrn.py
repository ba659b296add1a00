"""LRN: local response normalisation over channels or over a window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.backend.geometry import LrnGeometry
from poseidon_caffe.backend.protocols import LrnKernel
from poseidon_caffe.errors import LayerError
from poseidon_caffe.layers.base import Example, Layer, LayerContext, Storage
from poseidon_caffe.layers.registry import register

__all__ = ["LRN"]

_ACROSS_CHANNELS = 0


@register("LRN")
class LRN(Layer):
    """y = x * (k + alpha / n * sum of x^2 over the neighbourhood) ** -beta.

    ``norm_region: ACROSS_CHANNELS``: n = ``local_size`` channels around each one.
    ``WITHIN_CHANNEL``: a ``local_size`` square around each place, n its area.

    Bottoms, tops: one (N, C, H, W).

    Caffe parity: exact.  As in Caffe, WITHIN_CHANNEL uses k = 1 whatever ``k`` says.
    """

    storage = Storage.BOTTOM
    num_bottom = 1
    num_top = 1

    def __init__(self, param: Any, context: LayerContext) -> None:
        super().__init__(param, context)
        self._geometry: LrnGeometry | None = None
        self._kernel: LrnKernel | None = None

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """The neighbourhood needs a middle."""
        size = self.param.lrn_param.local_size
        if size % 2 == 0:
            raise LayerError(self.describe(f"local_size must be odd, not {size}"))

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """The top is as the bottom; make a new kernel if the shape changed."""
        if len(bottom[0].shape) != 4:
            raise self.shape_error("needs 4 axes (N, C, H, W)", bottom)
        p = self.param.lrn_param
        across = p.norm_region == _ACROSS_CHANNELS
        geometry = LrnGeometry(
            bottom[0].shape, p.local_size, p.alpha, p.beta,
            p.k if across else 1.0, across,
        )  # fmt: skip
        top[0].reshape(bottom[0].shape)
        if geometry != self._geometry:
            self._geometry, self._kernel = geometry, None

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Normalise."""
        if self._kernel is None:
            assert self._geometry is not None
            self._kernel = self.ops.lrn(self._geometry)
        self._kernel.forward(bottom[0].data, top[0].data)

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """Gradient through the element and all its neighbourhoods."""
        if propagate_down[0] and self._kernel is not None:
            x, y = bottom[0].data, top[0].data
            self._kernel.backward(x, y, top[0].diff, bottom[0].diff)

    @classmethod
    def examples(cls) -> list[Example]:
        """Both regions, several sizes."""

        def lrn(text: str, channels: int = 7) -> Example:
            return Example(f"lrn_param {{ {text} }}", bottoms=((2, channels, 4, 5),))

        return [
            lrn(""),
            lrn("local_size: 5 alpha: 0.0001 beta: 0.75"),
            lrn("local_size: 3 alpha: 0.5 beta: 0.6 k: 2"),
            lrn("local_size: 5", channels=2),
            lrn("local_size: 3 alpha: 0.05 norm_region: WITHIN_CHANNEL"),
            lrn("local_size: 5 norm_region: WITHIN_CHANNEL", channels=2),
        ]
