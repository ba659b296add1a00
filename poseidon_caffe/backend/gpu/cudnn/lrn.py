"""`LrnKernel` on cuDNN: normalisation across channels."""

from __future__ import annotations

from poseidon_caffe.backend.geometry import LrnGeometry
from poseidon_caffe.backend.gpu.cudnn.constants import LrnMode
from poseidon_caffe.backend.gpu.cudnn.descriptors import LrnDescriptor
from poseidon_caffe.backend.gpu.cudnn.handle import Handle
from poseidon_caffe.backend.gpu.cudnn.layout import address_of, common_layout
from poseidon_caffe.backend.protocols.kernels import LrnKernel
from poseidon_caffe.types import Array

__all__ = ["CudnnLrn", "supports"]

# The library's limits (CUDNN_LRN_MAX_N, _MIN_K, _MIN_BETA).
_MOST_CHANNELS = 16
_LEAST_K = 1e-5
_LEAST_BETA = 0.01
_AXES = 4


def supports(geometry: LrnGeometry) -> bool:
    """Whether cuDNN normalises as Caffe does: y = x (k + alpha/n sum x²)^-beta.

    Across channels only, for images; an odd size, so that the window lies in the
    middle; and settings within the library's limits.
    """
    g = geometry
    return (
        g.across_channels
        and len(g.x_shape) == _AXES
        and all(n > 0 for n in g.x_shape)
        and g.size % 2 == 1
        and 1 <= g.size <= _MOST_CHANNELS
        and g.k >= _LEAST_K
        and g.beta >= _LEAST_BETA
    )


class CudnnLrn:
    """`LrnKernel` by cuDNN; the device's own kernel takes what it cannot.

    Args:
        geometry: shapes and settings.
        handle: the library on a device.
        own: takes arrays that lie otherwise, and what `supports` denies.
    """

    def __init__(self, geometry: LrnGeometry, handle: Handle, own: LrnKernel) -> None:
        self.geometry = g = geometry
        self._handle, self._own = handle, own
        self._descriptor: LrnDescriptor | None = None
        self._used_own = True
        self._aside: Array | None = None
        if supports(g):
            self._descriptor = LrnDescriptor(
                handle.library, g.size, g.alpha, g.beta, g.k
            )

    def forward(self, x: Array, y: Array) -> None:
        """y = normalised x."""
        descriptor = self._descriptor
        layouts = common_layout(x, y) if descriptor is not None else None
        self._used_own = layouts is None
        if layouts is None or descriptor is None:
            self._own.forward(x, y)
            return
        handle = self._handle
        handle.call(
            "cudnnLRNCrossChannelForward", descriptor.address,
            LrnMode.CROSS_CHANNEL_DIM1, handle.factor(1.0, x.dtype),
            handle.tensor(x.dtype, layouts[0]), address_of(x),
            handle.factor(0.0, x.dtype), handle.tensor(y.dtype, layouts[1]),
            address_of(y),
        )  # fmt: skip

    def backward(self, x: Array, y: Array, dy: Array, dx: Array) -> None:
        """dx = gradient, after a forward of the same x.  dy may be dx."""
        descriptor = self._descriptor
        layouts = None if self._used_own else common_layout(x, y, dy, dx)
        if layouts is None or descriptor is None:
            if not self._used_own:
                # It keeps what its backward needs.
                self._own.forward(x, y)
            self._own.backward(x, y, dy, dx)
            return
        handle, dtype = self._handle, x.dtype
        of_x, of_y, of_dy, of_dx = (handle.tensor(dtype, each) for each in layouts)
        if address_of(dy) == address_of(dx):
            # Each gradient is read for its neighbours' too.
            dy = self._copy(dy, channels_last=layouts[2].channels_last)
            found = common_layout(x, dy)
            assert found is not None
            of_dy = handle.tensor(dtype, found[1])
        handle.call(
            "cudnnLRNCrossChannelBackward", descriptor.address,
            LrnMode.CROSS_CHANNEL_DIM1, handle.factor(1.0, dtype),
            of_y, address_of(y), of_dy, address_of(dy), of_x, address_of(x),
            handle.factor(0.0, dtype), of_dx, address_of(dx),
        )  # fmt: skip

    def _copy(self, array: Array, *, channels_last: bool) -> Array:
        device = self._handle.device
        if self._aside is None or self._aside.dtype != array.dtype:
            self._aside = device.empty(
                array.shape, array.dtype, channels_last=channels_last
            )
        device.cast(array, self._aside)
        return self._aside
