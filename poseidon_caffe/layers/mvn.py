"""MVN: every image, or each of its channels, to mean 0 and variance 1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.layers.base import Example, Layer, LayerContext, Storage
from poseidon_caffe.layers.registry import register
from poseidon_caffe.types import Array, Shape

__all__ = ["MVN"]


@register("MVN")
class MVN(Layer):
    """y = (x - mean) / (deviation + eps), moments over each channel of each image.

    Bottoms: at most 4 axes (N, C, H, W); missing ones count as 1.
    Tops: (N, C, H, W), always of 4 axes; in place allowed.

    ``mvn_param``: ``normalize_variance`` (default true; false only subtracts the
    mean), ``across_channels`` (default false; true takes one mean and deviation for a
    whole image), ``eps`` (default 1e-9, added to the deviation, not to the variance).

    Caffe parity: exact.  Backward leaves eps out of the deviation's own gradient, as
    Caffe does: with a large eps it is not quite the gradient.
    """

    storage = Storage.BOTTOM
    backward_reads_bottom = False
    allows_in_place = True

    num_bottom = 1
    num_top = 1

    def __init__(self, param: Any, context: LayerContext) -> None:
        super().__init__(param, context)
        p = param.mvn_param
        self._eps = float(p.eps)
        self._kept = 1 if p.across_channels else 2
        self._shape: Shape = ()
        self._deviation: Blob | None = None
        if p.normalize_variance:
            self._deviation = Blob(dtype=context.dtype, memory=context.ops.memory)
        else:
            self.backward_reads_top = False

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """The top always has 4 axes."""
        shape = bottom[0].shape
        if len(shape) > 4:
            raise self.shape_error("takes at most 4 axes (N, C, H, W)", bottom)
        self._shape = (*shape, *[1] * (4 - len(shape)))
        if top[0] is bottom[0] and len(shape) < 4:
            raise self.shape_error("needs 4 axes (N, C, H, W) to run in place", bottom)
        top[0].reshape(self._shape)
        if self._deviation is not None:
            self._deviation.reshape(self._shape[: self._kept])

    def _spread(self) -> Array | None:
        return None if self._deviation is None else self._deviation.data

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Normalise; keep the deviations."""
        x = bottom[0].data.reshape(self._shape)
        self.ops.mean_variance(x, top[0].data, self._kept, self._eps, self._spread())

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """Through mean and deviation."""
        if propagate_down[0]:
            dx = bottom[0].diff.reshape(self._shape)
            self.ops.mean_variance_backward(
                top[0].data, top[0].diff, dx, self._kept, self._spread()
            )

    @classmethod
    def examples(cls) -> list[Example]:
        """With and without the variance, over channels or not, fewer axes."""

        def mvn(text: str, shape: Shape = (2, 3, 4, 5)) -> Example:
            # The large ones are for the backends' blocks.
            return Example(
                f"mvn_param {{ {text} }}", (shape,), in_place=len(shape) == 4,
                check_gradient=math.prod(shape) < 200,
            )  # fmt: skip

        return [
            mvn(""),
            mvn("normalize_variance: false"),
            mvn("across_channels: true"),
            mvn("across_channels: true normalize_variance: false"),
            mvn("eps: 1e-7", (2, 40, 17, 16)),
            mvn("", (2, 3, 64, 96)),
            mvn("across_channels: true", (2, 3, 64, 96)),
            mvn("", (2, 3, 7)),
            mvn("across_channels: true", (3, 6)),
        ]
