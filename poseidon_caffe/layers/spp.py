"""SPP: pooling into 1, 4, 16, ... bins, whatever the size of the image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.backend.geometry import PoolGeometry
from poseidon_caffe.backend.protocols import PoolKernel
from poseidon_caffe.errors import LayerError
from poseidon_caffe.layers.base import Example, Layer, LayerContext
from poseidon_caffe.layers.generators import generator_state, restore_generator
from poseidon_caffe.layers.layout import like
from poseidon_caffe.layers.pooling import pooled_length, stochastic_examples
from poseidon_caffe.layers.registry import register
from poseidon_caffe.types import Array, JsonObject, Phase, Shape

__all__ = ["SPP", "level_geometry"]

_METHODS = ("max", "ave", "stochastic")


def level_geometry(x_shape: Shape, level: int, method: str) -> PoolGeometry:
    """Pooling of (N, C, H, W) into about 2^level bins along each axis.

    Kernel and stride are ceil(size / bins); half of what the bins overstep, rounded
    up, is padding.
    """
    bins = 2**level
    kernel = tuple(-(-size // bins) for size in x_shape[2:])
    pad = tuple(
        (k * bins - size + 1) // 2 for k, size in zip(kernel, x_shape[2:], strict=True)
    )
    pooled = tuple(
        pooled_length(size, k, k, p, floor=False, clip=any(pad))
        for size, k, p in zip(x_shape[2:], kernel, pad, strict=True)
    )
    return PoolGeometry(x_shape, (*x_shape[:2], *pooled), kernel, kernel, pad, method)


@register("SPP")
class SPP(Layer):
    """Spatial pyramid pooling: level l pools each plane into 2^l x 2^l bins.

    Bottoms: (N, C, H, W).
    Tops: (N, C * (1 + 4 + ... + 4^(pyramid_height - 1))): level after level, each in
    the order (channel, row, column).  With ``pyramid_height: 1``: (N, C, 1, 1).

    ``spp_param``: ``pyramid_height`` (must be given), ``pool`` (MAX, AVE or STOCHASTIC;
    default MAX).  Windows of a level are ceil(size / 2^l) long and as far apart; what
    they overstep is padding, half of it (rounded up) before the image.

    Caffe parity: exact; an image too small for a level (its padding would be as large
    as its windows) is refused, and so is STOCHASTIC where a level needs padding.
    STOCHASTIC runs on every backend and takes the weighted mean in TEST (Caffe's,
    on GPUs, samples in TEST too).
    """

    backward_reads_bottom = False
    backward_reads_top = False

    num_bottom = 1
    num_top = 1

    def __init__(self, param: Any, context: LayerContext) -> None:
        super().__init__(param, context)
        self._levels: list[tuple[PoolGeometry, PoolKernel]] = []
        #: Every level's pooled planes, and the gradients of all but the first.
        self._pooled: list[Blob] = []
        self._part: Blob | None = None
        self._rng: Any = None
        if self.method == "stochastic" and self.phase == Phase.TRAIN:
            self._rng = context.generator(f"spp/{self.name}")
        elif self.method == "stochastic":
            self.backward_reads_bottom = self.backward_reads_top = True

    @property
    def method(self) -> str:
        """One of max, ave and stochastic."""
        return _METHODS[self.param.spp_param.pool]

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """The height must be given."""
        if self.param.spp_param.pyramid_height < 1:
            raise LayerError(self.describe("pyramid_height must be given and positive"))

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Make a kernel for every level; the top holds all of them."""
        shape = bottom[0].shape
        if len(shape) != 4 or min(shape[2:]) < 1:
            raise self.shape_error("needs 4 axes (N, C, H, W), not empty", bottom)
        height = self.param.spp_param.pyramid_height
        if height > max(shape[2:]).bit_length() + 1:
            problem = f"pyramid_height {height} is too large for the image"
            raise self.shape_error(problem, bottom)
        geometries = [level_geometry(shape, i, self.method) for i in range(height)]
        if geometries != [geometry for geometry, _ in self._levels]:
            self._check(geometries, bottom)
            self._levels = [(g, self.ops.pooling(g)) for g in geometries]
            self._pooled = [like(bottom[0]) for _ in range(height)]
            for blob, g in zip(self._pooled, geometries, strict=True):
                blob.reshape(g.y_shape)
        if height == 1:
            top[0].reshape(geometries[0].y_shape)
            return
        bins = sum(g.y_shape[2] * g.y_shape[3] for g in geometries)
        top[0].reshape((shape[0], shape[1] * bins))

    def _check(
        self, geometries: Sequence[PoolGeometry], bottom: Sequence[Blob]
    ) -> None:
        """What the Pooling layer refuses is refused here too."""
        for level, g in enumerate(geometries):
            if g.pad[0] >= g.kernel[0] or g.pad[1] >= g.kernel[1]:
                problem = (
                    f"level {level} of the pyramid would need padding {g.pad}, as "
                    f"large as its windows {g.kernel}: the image is too small"
                )
                raise self.shape_error(problem, bottom)
            if self.method == "stochastic" and any(g.pad):
                problem = (
                    f"level {level} of the pyramid needs padding {g.pad}, which "
                    "STOCHASTIC pooling does not take"
                )
                raise self.shape_error(problem, bottom)

    def _slices(self, array: Array) -> list[Array]:
        """Every level's part of a top (N, all) as (N, C, rows, columns)."""
        parts, start = [], 0
        for g, _ in self._levels:
            count = g.y_shape[1] * g.y_shape[2] * g.y_shape[3]
            parts.append(array[:, start : start + count].reshape(g.y_shape))
            start += count
        return parts

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Pool on every level."""
        x, y = bottom[0].data, top[0].data
        if len(self._levels) == 1:
            self._levels[0][1].forward(x, y, None, self._rng)
            return
        parts = self._slices(y)
        for (_, kernel), pooled, part in zip(
            self._levels, self._pooled, parts, strict=True
        ):
            kernel.forward(x, pooled.data, None, self._rng)
            self.ops.copy(pooled.data, part)

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """The sum of all levels' gradients."""
        if not propagate_down[0]:
            return
        dy, dx = top[0].diff, bottom[0].diff
        if len(self._levels) == 1:
            self._levels[0][1].backward(dy, dx)
            return
        if self._part is None or self._part.channels_last != bottom[0].channels_last:
            self._part = like(bottom[0])
        self._part.reshape(bottom[0].shape)
        gradient = self._part.data
        for level, part in enumerate(self._slices(dy)):
            pooled, kernel = self._pooled[level], self._levels[level][1]
            self.ops.copy(part, pooled.diff)
            kernel.backward(pooled.diff, gradient if level else dx)
            if level:
                self.ops.add([dx, gradient], dx, [1.0, 1.0])

    def state(self) -> JsonObject:
        """The generator's state, where there is one."""
        return {} if self._rng is None else {"rng": generator_state(self._rng)}

    def restore_state(self, state: JsonObject) -> None:
        """Draw on from a saved state."""
        if "rng" in state and self._rng is not None:
            restore_generator(self._rng, state["rng"])

    @classmethod
    def examples(cls) -> list[Example]:
        """Every method, one and several levels, with and without padding."""

        def spp(text: str, shape: Shape = (2, 3, 7, 8)) -> Example:
            return Example(f"spp_param {{ {text} }}", (shape,))

        return [
            spp("pyramid_height: 3"),
            spp("pyramid_height: 1"),
            spp("pyramid_height: 3 pool: AVE"),
            spp("pyramid_height: 1 pool: AVE", (2, 3, 5, 4)),
            spp("pyramid_height: 2 pool: AVE", (1, 2, 5, 3)),
            *stochastic_examples("spp_param", "pyramid_height: 2"),
        ]
