"""`BatchNormKernel` on cuDNN: per channel, in training and at inference."""

from __future__ import annotations

import math

from poseidon_caffe.backend.geometry import BatchNormGeometry
from poseidon_caffe.backend.gpu.cudnn.constants import (
    BatchNormMode,
    BatchNormOps,
    DataType,
    data_type,
)
from poseidon_caffe.backend.gpu.cudnn.descriptors import one_per_channel
from poseidon_caffe.backend.gpu.cudnn.device import DeviceBytes
from poseidon_caffe.backend.gpu.cudnn.handle import Handle
from poseidon_caffe.backend.gpu.cudnn.layout import Layout, address_of, common_layout
from poseidon_caffe.backend.protocols.kernels import BatchNormKernel
from poseidon_caffe.types import Array

__all__ = ["CudnnBatchNorm", "supports"]

_LEAST_AXES, _MOST_AXES = 2, 5


def supports(geometry: BatchNormGeometry) -> bool:
    """Whether cuDNN normalises as Caffe does.

    By the batch's own moments, of two or more elements a channel (cuDNN gives the
    unbiased variance, which one element has none of); by stored ones only when no
    backward follows, as it knows no gradient of that.
    """
    g = geometry
    if not _LEAST_AXES <= len(g.x_shape) <= _MOST_AXES or 0 in g.x_shape:
        return False
    if g.use_stored:
        return g.inference
    return math.prod(g.x_shape) // g.x_shape[1] > 1 and not g.relu


class CudnnBatchNorm:
    """`BatchNormKernel` by cuDNN; the device's own kernel takes what it cannot.

    Moments, scale and shift are float32 (float64 beside float64 activations).
    Channels-last arrays use cuDNN's persistent kernels.

    Args:
        geometry: shapes and settings.
        handle: the library on a device.
        own: takes bfloat16, arrays that lie otherwise, and what `supports` denies.
    """

    def __init__(
        self, geometry: BatchNormGeometry, handle: Handle, own: BatchNormKernel
    ) -> None:
        self.geometry = geometry
        self._handle, self._own, self._device = handle, own, handle.device
        self._supported = supports(geometry)
        self._used_own = True
        self._kept: Array | None = None
        self._aside: Array | None = None
        self._rows: dict[str, Array] = {}
        self._reserve: DeviceBytes | None = None
        self._reserve_size = 0

    # -- pieces ----------------------------------------------------------------------
    def _layouts(self, *arrays: Array) -> tuple[Layout, ...] | None:
        if not self._supported or data_type(arrays[0].dtype) is DataType.BFLOAT16:
            return None
        return common_layout(*arrays)

    def _row(self, name: str, like: Array, value: float | None = None) -> Array:
        """A row of numbers per channel of this kernel's own, set to ``value`` once."""
        row = self._rows.get(name)
        if row is None or row.dtype != like.dtype:
            row = self._device.empty(like.shape, like.dtype, channels_last=False)
            self._rows[name] = row
            if value is not None:
                self._device.fill(row, value)
        return row

    def _copy(self, array: Array, old: Array | None, layout: Layout) -> Array:
        """A dense copy, in the memory of ``old`` if that serves."""
        last = layout.channels_last
        if old is None or old.dtype != array.dtype or self._layouts(array, old) is None:
            old = self._device.empty(array.shape, array.dtype, channels_last=last)
        self._device.cast(array, old)
        return old

    def _statistics(self, of: Array, axes: int) -> int:
        """Address of the descriptor of a row of numbers per channel."""
        layout = one_per_channel(self.geometry.x_shape[1], axes)
        return self._handle.tensor(of.dtype, layout)

    @staticmethod
    def _mode(layout: Layout) -> BatchNormMode:
        if layout.channels_last:
            return BatchNormMode.SPATIAL_PERSISTENT
        return BatchNormMode.SPATIAL

    # -- forward ---------------------------------------------------------------------
    def forward(
        self,
        x: Array,
        y: Array,
        mean: Array,
        var: Array,
        scale: Array | None = None,
        shift: Array | None = None,
    ) -> None:
        """y = (x - mean) / sqrt(var + eps) [* scale + shift]."""
        g = self.geometry
        layouts = self._layouts(x, y)
        self._used_own = layouts is None
        if layouts is None:
            self._own.forward(x, y, mean, var, scale, shift)
            return
        if not g.affine or scale is None:
            scale = self._row("ones", mean, 1.0)
        if not g.affine or shift is None:
            shift = self._row("zeros", mean, 0.0)
        if g.use_stored:
            self._infer(x, y, layouts, mean, var, scale, shift)
            return
        if address_of(x) == address_of(y):
            self._kept = x = self._copy(x, self._kept, layouts[0])
            layouts = self._layouts(x, y) or layouts
        self._train(x, y, layouts, mean, var, scale, shift)

    def _infer(
        self,
        x: Array,
        y: Array,
        layouts: tuple[Layout, ...],
        mean: Array,
        var: Array,
        scale: Array,
        shift: Array,
    ) -> None:
        handle, dtype = self._handle, x.dtype
        of_x, of_y = (handle.tensor(dtype, layout) for layout in layouts)
        handle.call(
            "cudnnBatchNormalizationForwardInference", BatchNormMode.SPATIAL,
            handle.factor(1.0, dtype), handle.factor(0.0, dtype),
            of_x, address_of(x), of_y, address_of(y),
            self._statistics(mean, len(layouts[0].dims)),
            address_of(scale), address_of(shift), address_of(mean), address_of(var),
            self.geometry.eps,
        )  # fmt: skip
        if self.geometry.relu:
            self._device.add_bias(y, None, 0.0)

    def _train(
        self,
        x: Array,
        y: Array,
        layouts: tuple[Layout, ...],
        mean: Array,
        var: Array,
        scale: Array,
        shift: Array,
    ) -> None:
        handle, dtype, mode = self._handle, x.dtype, self._mode(layouts[0])
        of_x, of_y = (handle.tensor(dtype, layout) for layout in layouts)
        row = self._statistics(mean, len(layouts[0].dims))
        size = handle.library.sizes()
        handle.call(
            "cudnnGetBatchNormalizationForwardTrainingExWorkspaceSize",
            mode, BatchNormOps.BN, of_x, None, of_y, row, None, size,
        )  # fmt: skip
        scratch = int(size[0])
        reserve = self._reserve_for(mode, of_x)
        # A factor of 1 makes the running moments the batch's, but 0 * NaN is NaN.
        for moment in (mean, var):
            self._device.fill(moment, 0.0)
        saved_mean, saved_inverse = self._row("mean", mean), self._row("inverse", mean)
        handle.call(
            "cudnnBatchNormalizationForwardTrainingEx", mode, BatchNormOps.BN,
            handle.factor(1.0, dtype), handle.factor(0.0, dtype),
            of_x, address_of(x), None, None, of_y, address_of(y),
            row, address_of(scale), address_of(shift), 1.0,
            address_of(mean), address_of(var), self.geometry.eps,
            address_of(saved_mean), address_of(saved_inverse), None,
            handle.workspace.address(scratch), scratch, reserve, self._reserve_size,
        )  # fmt: skip
        count = math.prod(self.geometry.x_shape) // self.geometry.x_shape[1]
        self._device.scale(var, (count - 1) / count)

    def _reserve_for(self, mode: BatchNormMode, of_x: int) -> int | None:
        """Memory that backward finds as forward left it."""
        size = self._handle.library.sizes()
        self._handle.call(
            "cudnnGetBatchNormalizationTrainingExReserveSpaceSize",
            mode, BatchNormOps.BN, None, of_x, size,
        )  # fmt: skip
        if self._reserve is None or self._reserve_size != size[0]:
            self._reserve_size = int(size[0])
            self._reserve = None
            if self._reserve_size:
                self._reserve = self._device.allocate(self._reserve_size)
        return self._reserve.ptr if self._reserve is not None else None

    # -- backward --------------------------------------------------------------------
    def backward(
        self,
        x: Array,
        dy: Array,
        dx: Array,
        mean: Array,
        var: Array,
        scale: Array | None = None,
        dscale: Array | None = None,
        dshift: Array | None = None,
        *,
        in_place: bool = False,
    ) -> None:
        """dx from dy; dscale and dshift are overwritten."""
        source = self._kept if in_place and self._kept is not None else x
        layouts = None if self._used_own else self._layouts(source, dy, dx)
        if layouts is None:
            own_in_place = in_place and self._used_own
            self._own.backward(
                x if own_in_place else source, dy, dx, mean, var, scale, dscale,
                dshift, in_place=own_in_place,
            )  # fmt: skip
            return
        if address_of(dy) == address_of(dx):
            self._aside = dy = self._copy(dy, self._aside, layouts[1])
            layouts = self._layouts(source, dy, dx) or layouts
        if not self.geometry.affine or scale is None:
            scale = self._row("ones", mean, 1.0)
        if dscale is None:
            dscale = self._row("dscale", mean)
        if dshift is None:
            dshift = self._row("dshift", mean)
        self._gradients(source, dy, dx, layouts, scale, dscale, dshift)

    def _gradients(
        self,
        x: Array,
        dy: Array,
        dx: Array,
        layouts: tuple[Layout, ...],
        scale: Array,
        dscale: Array,
        dshift: Array,
    ) -> None:
        handle, dtype, mode = self._handle, x.dtype, self._mode(layouts[0])
        of_x, of_dy, of_dx = (handle.tensor(dtype, layout) for layout in layouts)
        row = self._statistics(scale, len(layouts[0].dims))
        size = handle.library.sizes()
        handle.call(
            "cudnnGetBatchNormalizationBackwardExWorkspaceSize", mode, BatchNormOps.BN,
            of_x, None, of_dy, None, of_dx, row, None, size,
        )  # fmt: skip
        scratch = int(size[0])
        one, zero = handle.factor(1.0, dtype), handle.factor(0.0, dtype)
        handle.call(
            "cudnnBatchNormalizationBackwardEx", mode, BatchNormOps.BN,
            one, zero, one, zero, of_x, address_of(x), None, None,
            of_dy, address_of(dy), None, None, of_dx, address_of(dx),
            row, address_of(scale), None, address_of(dscale), address_of(dshift),
            self.geometry.eps, address_of(self._rows["mean"]),
            address_of(self._rows["inverse"]), None,
            handle.workspace.address(scratch), scratch,
            self._reserve.ptr if self._reserve is not None else None,
            self._reserve_size,
        )  # fmt: skip
