"""Local response normalisation, across channels and within each channel."""

from __future__ import annotations

import numpy as np

from poseidon_caffe.backend.geometry import LrnGeometry
from poseidon_caffe.backend.gpu.device import pointer
from poseidon_caffe.backend.gpu.image_planes import GpuImagePlanes, ImagePlanes
from poseidon_caffe.backend.gpu.kept import Kept
from poseidon_caffe.backend.gpu.params import param_dtype
from poseidon_caffe.backend.protocols.kernels import LrnKernel
from poseidon_caffe.errors import BackendError
from poseidon_caffe.types import Array, Shape

__all__ = ["GpuLrn", "GpuNormalisation"]

_WALKED = (3, 5)  # sizes that kernels are made for
_RUN = 32  # channels that a thread walks over


class GpuLrn:
    """`LrnKernel` for one geometry; arrays may have any strides.

    Plain images of the usual sizes are walked over channel by channel, each element
    read once; else a thread an element reads its neighbours, which the cache has.

    Args:
        geometry: shapes and settings.
        ops: the device and its memory.

    Raises:
        BackendError: a neighbourhood without a middle.
    """

    def __init__(self, geometry: LrnGeometry, ops: GpuImagePlanes) -> None:
        if geometry.size % 2 == 0 or geometry.size < 1:
            msg = f"LRN needs an odd local_size, not {geometry.size}"
            raise BackendError(msg)
        self.geometry = g = geometry
        self._ops = ops
        self._k = float(g.k if g.across_channels else 1.0)
        self._alpha = g.alpha / g.size ** (1 if g.across_channels else 2)
        self._scale: Kept | None = None

    def forward(self, x: Array, y: Array) -> None:
        """y = x * scale ** -beta."""
        g = self.geometry
        if self._scale is None:
            self._scale = Kept(self._ops, x.size, param_dtype(x.dtype))
        image = self._ops.image_planes("x", x)
        scale = self._scale.written(image)
        last = (self._k, self._alpha, float(g.beta))
        with self._ops.written_image_planes("y", y) as top:
            arrays = (image.array, top.array, scale)
            steps = (*image.steps, *top.steps)
            launcher = self._ops.kernels("lrn")
            if self._walks():
                sizes, count = self._walk(_RUN)
                launcher.each(
                    f"walk_forward_{g.size}", x.dtype, count, *arrays, count, *sizes,
                    *steps, *last,
                )  # fmt: skip
            else:
                launcher.each(
                    "each_forward", x.dtype, x.size, *arrays, x.size,
                    *self._places(), g.across_channels, g.size // 2, *steps, *last,
                )  # fmt: skip

    def _walks(self) -> bool:
        g = self.geometry
        assert self._scale is not None
        return g.across_channels and g.size in _WALKED and not self._scale.channels_last

    def _walk(self, run: int) -> tuple[Shape, int]:
        """(channels, places, channels of a thread), and how many threads."""
        n, c, h, w = self.geometry.x_shape
        run = max(1, min(run, c))
        return (c, h * w, run), n * -(-c // run) * h * w

    def _places(self) -> Shape:
        assert self._scale is not None
        return (*self.geometry.x_shape[1:], int(self._scale.channels_last))

    def backward(self, x: Array, y: Array, dy: Array, dx: Array) -> None:
        """dx = dy scale^-beta - 2 alpha beta / n * x * windowed sum of dy y / scale."""
        if self._scale is None:
            raise BackendError("LRN backward needs a forward first")
        if not x.size:
            return
        image, top, given = (
            self._ops.image_planes(name, a)
            for name, a in (("x", x), ("y", y), ("dy", dy))
        )
        with self._ops.written_image_planes("dx", dx) as target:
            if self._walks():
                self._walk_back(image, top, given, target)
            else:
                self._each_back(image, top, given, target)

    def _factors(self) -> tuple[float, float]:
        beta = float(self.geometry.beta)
        return 2 * self._alpha * beta, beta

    def _walk_back(
        self, x: ImagePlanes, y: ImagePlanes, dy: ImagePlanes, dx: ImagePlanes
    ) -> None:
        assert self._scale is not None
        shared = pointer(dy.array) == pointer(dx.array)
        # What another thread needs must not be overwritten: one thread for all then.
        sizes, count = self._walk(x.channels if shared else _RUN)
        self._ops.kernels("lrn").each(
            f"walk_backward_{self.geometry.size}", x.array.dtype, count, x.array,
            y.array, dy.array, dx.array, self._scale.array, count, *sizes, *x.steps,
            *y.steps, *dy.steps, *dx.steps, *self._factors(),
        )  # fmt: skip

    def _each_back(
        self, x: ImagePlanes, y: ImagePlanes, dy: ImagePlanes, dx: ImagePlanes
    ) -> None:
        g, count = self.geometry, x.array.size
        assert self._scale is not None
        assert self._scale.array is not None
        scale, places = self._scale.array, self._places()
        ratio = self._ops.scratch.take("lrn ratio", (count,), scale.dtype)
        each = self._ops.kernels("lrn").each
        dtype: np.dtype = x.array.dtype
        each(
            "ratios", dtype, count, y.array, dy.array, scale, ratio, count, *places,
            *y.steps, *dy.steps,
        )  # fmt: skip
        each(
            "each_backward", dtype, count, x.array, dy.array, dx.array, scale, ratio,
            count, *places, g.across_channels, g.size // 2, *x.steps, *dy.steps,
            *dx.steps, *self._factors(),
        )  # fmt: skip


class GpuNormalisation(GpuImagePlanes):
    """Makes LRN kernels."""

    def lrn(self, geometry: LrnGeometry) -> LrnKernel:
        """A local response normalisation kernel for ``geometry``."""
        return GpuLrn(geometry, self)
