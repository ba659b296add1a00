"""`ConvKernel` on cuDNN, by either of its interfaces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from poseidon_caffe.backend.geometry import ConvGeometry
from poseidon_caffe.backend.gpu.cudnn.filters import Filters
from poseidon_caffe.backend.gpu.cudnn.graph import GraphPlanner
from poseidon_caffe.backend.gpu.cudnn.handle import Handle
from poseidon_caffe.backend.gpu.cudnn.layout import address_of, common_layout
from poseidon_caffe.backend.gpu.cudnn.legacy import LegacyPlanner
from poseidon_caffe.backend.gpu.cudnn.plan import (
    Addresses,
    Direction,
    Plan,
    Planner,
    Request,
    supports,
)
from poseidon_caffe.backend.protocols.kernels import ConvKernel
from poseidon_caffe.types import Array, Shape

__all__ = ["CudnnConvolution", "CudnnGraphConvolution", "supports"]

_Key = tuple[Direction, Shape, Shape, np.dtype, bool]


@dataclass
class _Product:
    """One of the three products for arrays that lie in one way.

    ``plan`` is None before it is made and where there is none.
    """

    request: Request
    filters: Filters
    is_planned: bool = False
    plan: Plan | None = None


class CudnnConvolution:
    """`ConvKernel` by cuDNN's older interface.

    Arrays are plain or channels-last, of one dtype (float32, float64, float16, or
    bfloat16 marked as uint16); parameters and their gradients stay float32 (float64
    beside float64).  The first call for a layout chooses an algorithm, which may
    take a second and overwrites the result: not while a CUDA graph is recorded.

    Args:
        geometry: shapes and settings.
        handle: the library on a device.
        own: takes what cuDNN cannot (see `supports`), and arrays that lie otherwise.
        planner: makes plans; the older interface's unless given.
    """

    def __init__(
        self,
        geometry: ConvGeometry,
        handle: Handle,
        own: ConvKernel,
        planner: Planner | None = None,
    ) -> None:
        self.geometry = geometry
        self._handle, self._device = handle, handle.device
        self._own = own
        self._planner = planner or LegacyPlanner(handle)
        self._supported = supports(geometry)
        self._products: dict[_Key, _Product | None] = {}
        self._filters: dict[tuple[np.dtype, bool], Filters] = {}
        self._bias: Array | None = None

    # -- plans -----------------------------------------------------------------------
    def _product(self, direction: Direction, x: Array, y: Array) -> _Product | None:
        """What serves arrays that lie so; None for none."""
        aligned = not (address_of(x) | address_of(y)) % 16
        key = (direction, x.strides, y.strides, x.dtype, aligned)
        if key not in self._products:
            self._products[key] = self._describe(direction, x, y, aligned=aligned)
        return self._products[key]

    def _describe(
        self, direction: Direction, x: Array, y: Array, *, aligned: bool
    ) -> _Product | None:
        g = self.geometry
        fits = x.shape == g.x_shape and y.shape == g.y_shape and x.dtype == y.dtype
        layouts = common_layout(x, y) if self._supported and fits else None
        if layouts is None:
            return None
        alignment = 16 if aligned else x.itemsize
        request = Request(
            direction, g, np.dtype(x.dtype), layouts[0], layouts[1], alignment
        )
        key = (request.dtype, request.channels_last)
        if key not in self._filters:
            self._filters[key] = Filters(
                self._device, g.w_shape, key[0], channels_last=key[1]
            )
        return _Product(request, self._filters[key])

    def _version(self, key: int | None) -> tuple[int, int] | None:
        """Of a copy of the weights: a graph must make the copies that it works with."""
        return None if key is None else (key, self._handle.recordings)

    # -- the three products ----------------------------------------------------------
    def forward(
        self, x: Array, w: Array, b: Array | None, y: Array, key: int | None = None
    ) -> None:
        """y = relu?(conv(x, w) + b)."""
        product = self._product(Direction.FORWARD, x, y)
        if product is not None and not product.is_planned:
            self._plan_forward(product, x, w, b, y)
        if product is None or product.plan is None:
            self._own.forward(x, w, b, y, key)
            return
        plan = product.plan
        weights = product.filters.values(w, self._version(key))
        at = Addresses(address_of(x), weights, address_of(y))
        if b is not None and plan.fuses:
            bias = self._bias_for(product.request, b)
            if plan.run_fused(Addresses(at.x, at.w, at.y, address_of(bias))):
                return
        plan.run(at)
        self._finish(y, b)

    def _finish(self, y: Array, b: Array | None) -> None:
        """What the product alone leaves to do."""
        if b is not None or self.geometry.relu is not None:
            self._device.add_bias(y, b, self.geometry.relu)

    def _plan_forward(
        self, product: _Product, x: Array, w: Array, b: Array | None, y: Array
    ) -> None:
        bias = None if b is None else address_of(self._bias_for(product.request, b))
        weights = product.filters.values(w, None)
        at = Addresses(address_of(x), weights, address_of(y), bias)
        product.plan = self._planner.plan(
            product.request, at, lambda: self._finish(y, b)
        )
        product.is_planned = True

    def _bias_for(self, request: Request, b: Array) -> Array:
        """The bias in the activations' dtype."""
        if b.dtype == request.dtype and not address_of(b) % request.alignment:
            return b
        if self._bias is None or self._bias.dtype != request.dtype:
            self._bias = self._device.empty(b.shape, request.dtype, channels_last=False)
        self._device.cast(b, self._bias)
        return self._bias

    def backward_data(
        self, dy: Array, w: Array, dx: Array, key: int | None = None
    ) -> None:
        """dx = the gradient with respect to x."""
        product = self._product(Direction.DATA, dx, dy)
        if product is None:
            self._own.backward_data(dy, w, dx, key)
            return
        weights = product.filters.values(w, self._version(key))
        at = Addresses(address_of(dx), weights, address_of(dy))
        if not product.is_planned:
            product.plan = self._planner.plan(product.request, at)
            product.is_planned = True
        if product.plan is None:
            self._own.backward_data(dy, w, dx, key)
        else:
            product.plan.run(at)

    def backward_weights(
        self, x: Array, dy: Array, dw: Array, db: Array | None, *, accumulate: bool
    ) -> None:
        """dw (+)= gradient of the weights; db likewise when given."""
        product = self._product(Direction.FILTER, x, dy)
        if product is not None and not product.is_planned:
            self._plan_weights(product, x, dy)
        if product is None or product.plan is None:
            self._own.backward_weights(x, dy, dw, db, accumulate=accumulate)
            return
        self._weights(product, product.plan, x, dy, dw, accumulate=accumulate)
        if db is not None:
            self._device.bias_gradient(dy, db, accumulate=accumulate)

    def _plan_weights(self, product: _Product, x: Array, dy: Array) -> None:
        """Choose with a result of its own: the real one may hold a sum to add to."""
        request = product.request
        aside = self._device.empty(
            self.geometry.w_shape, request.dtype, channels_last=request.channels_last
        )
        at = Addresses(address_of(x), address_of(aside), address_of(dy))
        product.plan = self._planner.plan(request, at)
        product.is_planned = True

    def _weights(
        self,
        product: _Product,
        plan: Plan,
        x: Array,
        dy: Array,
        dw: Array,
        *,
        accumulate: bool,
    ) -> None:
        if product.filters.is_direct(dw) and (plan.accumulates or not accumulate):
            at = Addresses(address_of(x), address_of(dw), address_of(dy))
            plan.run(at, accumulate=accumulate)
            return
        aside = product.filters.gradient()
        plan.run(Addresses(address_of(x), address_of(aside), address_of(dy)))
        self._device.cast(aside, dw, accumulate=accumulate)


class CudnnGraphConvolution(CudnnConvolution):
    """The same by cuDNN's graph interface, which has the newer kernels.

    Bias and ReLU are parts of the graph where the library has an engine for that.

    Args:
        geometry: shapes and settings.
        handle: the library on a device.
        own: takes what cuDNN cannot.
    """

    def __init__(self, geometry: ConvGeometry, handle: Handle, own: ConvKernel) -> None:
        super().__init__(geometry, handle, own, GraphPlanner(handle))
