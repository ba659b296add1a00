"""Im2col: what a convolution multiplies its weights with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.backend.geometry import ColumnGeometry
from poseidon_caffe.layers.base import Example, Layer, LayerContext, Storage
from poseidon_caffe.layers.layout import PlainView
from poseidon_caffe.layers.registry import register
from poseidon_caffe.layers.windows import read_windows
from poseidon_caffe.types import Array, Shape

__all__ = ["Im2col"]


@register("Im2col")
class Im2col(Layer):
    """y[n, (c, k), i] = x[n, c, stride i + dilation k - pad], 0 outside the image.

    Bottoms: (N, C, *spatial), one spatial axis or more.
    Tops: (N, C * product of kernel, *spatial'), where an axis of size s becomes
    floor((s + 2 pad - dilation (kernel - 1) - 1) / stride) + 1; among the channels
    the kernel's last axis moves fastest.

    Settings are Convolution's (``convolution_param``: kernel_size, stride, pad,
    dilation, axis).  ``axis`` moves the channel axis: the axes before it are all batch.

    Caffe parity: exact.
    """

    storage = Storage.BOTTOM
    backward_reads_bottom = False
    backward_reads_top = False

    num_bottom = 1
    num_top = 1

    def __init__(self, param: Any, context: LayerContext) -> None:
        super().__init__(param, context)
        self._axis = 1
        self._geometry = ColumnGeometry((), (), (), ())
        self._x_shape: Shape = ()
        self._y_shape: Shape = ()
        self._x_view = PlainView(self.ops, context.dtype)
        self._y_view = PlainView(self.ops, context.dtype)

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Check the settings."""
        p = self.param.convolution_param
        self._axis = bottom[0].canonical_axis(p.axis)
        axes = len(bottom[0].shape) - self._axis - 1
        if axes < 1:
            raise self.shape_error("needs an axis after the channels", bottom)
        w = read_windows(self, p, axes)
        self._geometry = ColumnGeometry(w.kernel, w.stride, w.pad, w.dilation)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Count the windows."""
        shape, g = bottom[0].shape, self._geometry
        if len(shape) != self._axis + 1 + len(g.kernel):
            problem = f"needs {self._axis + 1 + len(g.kernel)} axes"
            raise self.shape_error(problem, bottom)
        windows = g.spatial(shape[self._axis + 1 :])
        if min(windows) < 1:
            problem = f"the kernel {g.kernel} exceeds the padded input"
            raise self.shape_error(problem, bottom)
        batch, channels = math.prod(shape[: self._axis]), shape[self._axis]
        self._x_shape = (batch, *shape[self._axis :])
        self._y_shape = (batch, channels * math.prod(g.kernel), *windows)
        top[0].reshape((*shape[: self._axis], *self._y_shape[1:]))

    def _columns(self, y: Array) -> Array:
        """(N, C * K, *windows) seen as (N, C, *kernel, *windows)."""
        (n, c), g = self._x_shape[:2], self._geometry
        return y.reshape(n, c, *g.kernel, *self._y_shape[2:])

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Copy every window."""
        x, y = bottom[0].data, top[0].data
        if self._axis == 1:
            self.ops.im2col(x, self._columns(y), self._geometry)
            return
        out = self._y_view.target(y, self._y_shape)
        x = self._x_view.read(x, self._x_shape)
        self.ops.im2col(x, self._columns(out), self._geometry)
        self._y_view.write_back(out, y)

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """Every element gets the sum over the windows that it is in."""
        if not propagate_down[0]:
            return
        dy, dx = top[0].diff, bottom[0].diff
        if self._axis == 1:
            self.ops.col2im(self._columns(dy), dx, self._geometry)
            return
        out = self._x_view.target(dx, self._x_shape)
        dy = self._y_view.read(dy, self._y_shape)
        self.ops.col2im(self._columns(dy), out, self._geometry)
        self._x_view.write_back(out, dx)

    @classmethod
    def examples(cls) -> list[Example]:
        """Padded, strided, dilated, rectangular, 1-D, 3-D, moved axis."""

        def im2col(text: str, shape: Shape = (2, 3, 5, 6)) -> Example:
            return Example(f"convolution_param {{ {text} }}", (shape,))

        return [
            im2col("kernel_size: 3"),
            im2col("kernel_size: 1"),
            im2col("kernel_size: 3 stride: 2 pad: 1"),
            im2col("kernel_size: 2 dilation: 2 pad: 2"),
            im2col("kernel_h: 1 kernel_w: 4 pad_h: 0 pad_w: 5 stride_h: 2 stride_w: 3"),
            im2col("kernel_size: 3 pad: 1", (2, 4, 6)),
            im2col("kernel_size: 2 pad: 1", (1, 2, 3, 2, 3)),
            im2col("kernel_size: 2 axis: 2", (2, 2, 3, 5)),
            im2col("kernel_size: 2 axis: -3", (2, 1, 2, 4, 3)),
            im2col("kernel_size: 2 axis: 0", (2, 3, 4)),
        ]
