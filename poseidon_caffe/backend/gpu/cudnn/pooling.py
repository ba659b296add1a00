"""`PoolKernel` on cuDNN, for the geometries where it computes what Caffe does."""

from __future__ import annotations

from typing import Any

from poseidon_caffe.backend.geometry import PoolGeometry, conv_output
from poseidon_caffe.backend.gpu.cudnn.constants import PoolingMode
from poseidon_caffe.backend.gpu.cudnn.descriptors import PoolingDescriptor
from poseidon_caffe.backend.gpu.cudnn.handle import Handle
from poseidon_caffe.backend.gpu.cudnn.layout import address_of, common_layout
from poseidon_caffe.backend.protocols.kernels import PoolKernel
from poseidon_caffe.types import Array

__all__ = ["CudnnPooling", "supports"]

_MODES = {
    "max": PoolingMode.MAX_DETERMINISTIC,
    "ave": PoolingMode.AVERAGE_INCLUDE_PADDING,
}


def supports(geometry: PoolGeometry, *, backward: bool = True) -> bool:
    """Whether cuDNN pools as Caffe does.

    It does where no window oversteps the padded image (ceil rounding had nothing to
    round up) and every window has a place on the image.  Then the average's divisor
    is the kernel's area, as cuDNN's is when it counts padding.  Maxima are alike in
    forward only: Caffe's backward gives the gradient to the first of equal maxima
    (zeros after a ReLU are equal ever so often), cuDNN does not say to which.

    Args:
        geometry: of the pooling.
        backward: whether the gradient is needed too.
    """
    g = geometry
    if g.method not in _MODES or (g.method == "max" and backward):
        return False
    axes = zip(g.x_shape[2:], g.y_shape[2:], g.kernel, g.stride, g.pad, strict=True)
    fits = all(
        n + 2 * p >= k and p < k and conv_output(n, k, s, p, 1) == y
        for n, y, k, s, p in axes
    )
    return fits and all(n > 0 for n in (*g.x_shape, *g.y_shape))


class CudnnPooling:
    """`PoolKernel` by cuDNN; the device's own kernel takes what it cannot.

    Without ``backward`` no gradient will be asked for, which lets cuDNN take maxima.

    Args:
        geometry: shapes and settings.
        handle: the library on a device.
        own: takes masks, arrays that lie otherwise, and what `supports` denies.
        backward: whether the gradient is needed too.
    """

    def __init__(
        self,
        geometry: PoolGeometry,
        handle: Handle,
        own: PoolKernel,
        *,
        backward: bool = True,
    ) -> None:
        self.geometry = g = geometry
        self._handle, self._own = handle, own
        self._descriptor: PoolingDescriptor | None = None
        if supports(g, backward=backward):
            self._descriptor = PoolingDescriptor(
                handle.library, _MODES[g.method], g.kernel, g.pad, g.stride
            )

    def _tensors(self, x: Array, y: Array) -> tuple[int, int, int] | None:
        """Addresses of the descriptors of pooling, bottom and top; None for none."""
        layouts = common_layout(x, y) if self._descriptor is not None else None
        if layouts is None or self._descriptor is None:
            return None
        handle = self._handle
        return (
            self._descriptor.address,
            handle.tensor(x.dtype, layouts[0]),
            handle.tensor(y.dtype, layouts[1]),
        )

    def forward(
        self, x: Array, y: Array, mask: Array | None = None, rng: Any = None
    ) -> None:
        """y = pooled x; see `PoolKernel.forward`."""
        tensors = self._tensors(x, y) if mask is None else None
        if tensors is None:
            self._own.forward(x, y, mask, rng)
            return
        pooling, of_x, of_y = tensors
        one, zero = self._handle.factor(1.0, x.dtype), self._handle.factor(0.0, x.dtype)
        self._handle.call(
            "cudnnPoolingForward", pooling, one, of_x, address_of(x), zero, of_y,
            address_of(y),
        )  # fmt: skip

    def backward(self, dy: Array, dx: Array, mask: Array | None = None) -> None:
        """dx = gradient: of averages, which need neither bottom nor top."""
        average = self.geometry.method == "ave" and mask is None
        tensors = self._tensors(dx, dy) if average else None
        if tensors is None:
            self._own.backward(dy, dx, mask)
            return
        pooling, of_x, of_y = tensors
        one = self._handle.factor(1.0, dx.dtype)
        zero = self._handle.factor(0.0, dx.dtype)
        top, bottom = address_of(dy), address_of(dx)
        # Averages do not look at the values; any memory of the right size stands in.
        self._handle.call(
            "cudnnPoolingBackward", pooling, one, of_y, top, of_y, top, of_x, bottom,
            zero, of_x, bottom,
        )  # fmt: skip
