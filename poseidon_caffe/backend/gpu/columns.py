"""Windows of images laid out as columns, and the sums back."""

from __future__ import annotations

import math
from typing import NamedTuple

from poseidon_caffe.backend.geometry import ColumnGeometry
from poseidon_caffe.backend.gpu.device import Argument
from poseidon_caffe.backend.gpu.image_planes import (
    GpuImagePlanes,
    ImagePlanes,
    joined_step,
)
from poseidon_caffe.errors import BackendError
from poseidon_caffe.types import Array, Shape

__all__ = ["ColumnSteps", "GpuColumns", "axis_arguments"]

_MOST_AXES = 6


class ColumnSteps(NamedTuple):
    """Elements of the columns from one image, window, ... to the next.

    Attributes:
        in_group: channels of a group.
    """

    image: int
    window: int
    group: int
    channel: int
    tap: int
    in_group: int


def axis_arguments(
    geometry: ColumnGeometry, sizes: Shape, windows: Shape, step: int
) -> tuple[int, list[Argument]]:
    """(axes, arguments) of a kernel made for 2, 3 or 6 spatial axes.

    Args:
        geometry: kernel, stride, pad and dilation of every axis.
        sizes: places of the image along every axis.
        windows: how many along every axis.
        step: elements of the image from place to place of its last axis.

    Raises:
        BackendError: more than six axes.
    """
    own = len(sizes)
    if own > _MOST_AXES:
        raise BackendError(
            f"convolution over {own} spatial axes: the GPU backend takes {_MOST_AXES}"
        )
    axes = next(n for n in (2, 3, _MOST_AXES) if own <= n)
    rows: list[Argument] = []
    settings = (*zip(geometry.kernel, geometry.stride, geometry.pad, geometry.dilation,
                     sizes, windows, strict=True),)  # fmt: skip
    for row in settings[::-1]:
        rows = [*row, step, *rows]
        step *= row[4]
    return axes, [1, 1, 0, 1, 1, 1, 0] * (axes - own) + rows


class GpuColumns(GpuImagePlanes):
    """`ColumnOps` on a GPU."""

    def im2col(self, x: Array, columns: Array, geometry: ColumnGeometry) -> None:
        """Fill ``columns`` from ``x``."""
        if not columns.size:
            return
        steps = _steps_of(columns, len(geometry.kernel))
        source = self.image_planes("image", x)
        windows = columns.shape[2 + len(geometry.kernel) :]
        if steps is not None:
            self.unfold(source, columns, geometry, windows, steps)
            return
        twin = self.scratch.take("columns", columns.shape, columns.dtype)
        plain = _steps_of(twin, len(geometry.kernel))
        assert plain is not None
        self.unfold(source, twin, geometry, windows, plain)
        self.copy(twin, columns)

    def col2im(self, columns: Array, x: Array, geometry: ColumnGeometry) -> None:
        """x = the sum of every column entry that `im2col` took from it."""
        if not x.size:
            return
        steps = _steps_of(columns, len(geometry.kernel))
        windows = columns.shape[2 + len(geometry.kernel) :]
        if steps is None:
            twin = self.scratch.take("columns", columns.shape, columns.dtype)
            self.copy(columns, twin)
            columns, steps = twin, _steps_of(twin, len(geometry.kernel))
            assert steps is not None
        with self.written_image_planes("image", x) as target:
            self.fold(columns, target, geometry, windows, steps)

    def unfold(
        self,
        x: ImagePlanes,
        columns: Array,
        geometry: ColumnGeometry,
        windows: Shape,
        steps: ColumnSteps,
    ) -> None:
        """Fill ``columns`` from images; threads go along channels if ``x`` does."""
        sizes = x.array.shape[2:]
        axes, rows = axis_arguments(geometry, sizes, windows, x.steps[2])
        count = x.images * x.channels * math.prod(windows)
        self.kernels("columns").each(
            f"unfold_{axes}", columns.dtype, count, x.array, columns, count,
            x.channels, math.prod(windows), math.prod(geometry.kernel),
            x.channels_last, *x.steps[:2], *steps, *rows,
        )  # fmt: skip

    def fold(
        self,
        columns: Array,
        x: ImagePlanes,
        geometry: ColumnGeometry,
        windows: Shape,
        steps: ColumnSteps,
    ) -> None:
        """Overwrite images with the sums of their elements' columns."""
        sizes = x.array.shape[2:]
        axes, rows = axis_arguments(geometry, sizes, windows, x.steps[2])
        count = x.images * x.channels * x.places
        self.kernels("columns").each(
            f"fold_{axes}", columns.dtype, count, columns, x.array, count,
            x.channels, x.places, math.prod(geometry.kernel),
            x.channels_last, *x.steps[:2], *steps, *rows,
        )  # fmt: skip


def _steps_of(columns: Array, axes: int) -> ColumnSteps | None:
    """How (N, C, *kernel, *windows) lies, where its axes can be joined."""
    n, c, *rest = (step // columns.itemsize for step in columns.strides)
    tap = joined_step(columns.shape[2 : 2 + axes], tuple(rest[:axes]))
    window = joined_step(columns.shape[2 + axes :], tuple(rest[axes:]))
    if tap is None or window is None:
        return None
    return ColumnSteps(n, window, 0, c, tap, max(columns.shape[1], 1))
