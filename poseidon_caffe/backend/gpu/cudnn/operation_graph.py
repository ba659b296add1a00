"""Convolutions as graphs of operations."""

from __future__ import annotations

import enum
from typing import Protocol

from poseidon_caffe.backend.gpu.cudnn.backend_descriptor import BackendDescriptor
from poseidon_caffe.backend.gpu.cudnn.constants import (
    ConvolutionMode,
    DataType,
    data_type,
)
from poseidon_caffe.backend.gpu.cudnn.descriptors import one_per_channel
from poseidon_caffe.backend.gpu.cudnn.graph_constants import (
    Attribute,
    Kind,
    Pointwise,
)
from poseidon_caffe.backend.gpu.cudnn.layout import (
    Layout,
    dense_strides,
    padded_axes,
)
from poseidon_caffe.backend.gpu.cudnn.library import Library
from poseidon_caffe.backend.gpu.cudnn.plan import Direction, Request

__all__ = ["GraphBuilder", "HandleTarget", "Target", "Uid"]


class Target(Protocol):
    """What a graph is made for: says so in each descriptor that wants to know."""

    def graph(self, descriptor: BackendDescriptor) -> None:
        """Of an operation graph."""

    def heuristics(self, descriptor: BackendDescriptor) -> None:
        """Of a query for engines."""

    def engine(self, descriptor: BackendDescriptor) -> None:
        """Of an engine."""

    def plan(self, descriptor: BackendDescriptor) -> None:
        """Of an execution plan."""


class HandleTarget:
    """The device of a handle.

    Args:
        address: of the ``cudnnHandle_t``.
    """

    def __init__(self, address: int) -> None:
        self._address = address

    def graph(self, descriptor: BackendDescriptor) -> None:
        """Of an operation graph."""
        descriptor.handle(Attribute.OPERATIONGRAPH_HANDLE, self._address)

    def heuristics(self, descriptor: BackendDescriptor) -> None:
        """Nothing: the graph says it."""

    def engine(self, descriptor: BackendDescriptor) -> None:
        """Nothing: the graph says it."""

    def plan(self, descriptor: BackendDescriptor) -> None:
        """Of an execution plan."""
        descriptor.handle(Attribute.EXECUTION_PLAN_HANDLE, self._address)


class Uid(enum.IntEnum):
    """Which tensor of a graph memory is for."""

    X = 1
    W = 2
    Y = 3
    BIAS = 4
    PRODUCT = 5
    SUM = 6


_OPERATIONS = {
    Direction.FORWARD: (
        Kind.OPERATION_CONVOLUTION_FORWARD,
        Attribute.OPERATION_CONVOLUTION_FORWARD_ALPHA,
        Attribute.OPERATION_CONVOLUTION_FORWARD_BETA,
        Attribute.OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
        Attribute.OPERATION_CONVOLUTION_FORWARD_X,
        Attribute.OPERATION_CONVOLUTION_FORWARD_W,
        Attribute.OPERATION_CONVOLUTION_FORWARD_Y,
    ),
    Direction.DATA: (
        Kind.OPERATION_CONVOLUTION_BACKWARD_DATA,
        Attribute.OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
        Attribute.OPERATION_CONVOLUTION_BWD_DATA_BETA,
        Attribute.OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
        Attribute.OPERATION_CONVOLUTION_BWD_DATA_DX,
        Attribute.OPERATION_CONVOLUTION_BWD_DATA_W,
        Attribute.OPERATION_CONVOLUTION_BWD_DATA_DY,
    ),
    Direction.FILTER: (
        Kind.OPERATION_CONVOLUTION_BACKWARD_FILTER,
        Attribute.OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
        Attribute.OPERATION_CONVOLUTION_BWD_FILTER_BETA,
        Attribute.OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
        Attribute.OPERATION_CONVOLUTION_BWD_FILTER_X,
        Attribute.OPERATION_CONVOLUTION_BWD_FILTER_DW,
        Attribute.OPERATION_CONVOLUTION_BWD_FILTER_DY,
    ),
}


class GraphBuilder:
    """Makes the operation graph of a request.

    Args:
        library: that makes descriptors.
        request: the product.
        fused: whether bias and ReLU are part of it (of a forward).
    """

    def __init__(self, library: Library, request: Request, *, fused: bool) -> None:
        self._library, self._request, self._fused = library, request, fused
        self._type = data_type(request.dtype)
        self._double = self._type is DataType.DOUBLE
        self._compute = DataType.DOUBLE if self._double else DataType.FLOAT

    @property
    def uids(self) -> tuple[Uid, ...]:
        """The tensors that memory must be given for, in order."""
        return (Uid.X, Uid.W, Uid.Y, *((Uid.BIAS,) if self._fused else ()))

    def build(self, target: Target) -> BackendDescriptor:
        """The graph.

        Raises:
            BackendError: the library does not take it.
        """
        graph = BackendDescriptor(self._library, Kind.OPERATIONGRAPH)
        target.graph(graph)
        graph.refer(Attribute.OPERATIONGRAPH_OPS, *self._operations())
        return graph.finalize()

    def _operations(self) -> list[BackendDescriptor]:
        request = self._request
        x = self._tensor(Uid.X, request.x)
        w = self._tensor(Uid.W, self._weights_layout())
        y = self._tensor(Uid.Y, request.y)
        if not self._fused:
            return [self._convolution(x, w, y)]
        channels, axes = request.geometry.num_output, len(request.y.dims)
        bias = self._tensor(Uid.BIAS, one_per_channel(channels, axes))
        product = self._between(Uid.PRODUCT)
        slope = request.geometry.relu
        if slope is None:
            return [
                self._convolution(x, w, product),
                self._pointwise(Pointwise.ADD, product, bias, y),
            ]
        total = self._between(Uid.SUM)
        return [
            self._convolution(x, w, product),
            self._pointwise(Pointwise.ADD, product, bias, total),
            self._pointwise(Pointwise.RELU_FWD, total, None, y, slope=slope),
        ]

    def _weights_layout(self) -> Layout:
        last = self._request.channels_last
        dims = padded_axes(self._request.geometry.w_shape)
        return Layout(dims, dense_strides(dims, channels_last=last), last)

    def _tensor(
        self, uid: Uid, layout: Layout, *, virtual: bool = False
    ) -> BackendDescriptor:
        kind = self._compute if virtual else self._type
        tensor = BackendDescriptor(self._library, Kind.TENSOR)
        tensor.longs(Attribute.TENSOR_UNIQUE_ID, uid)
        tensor.choose(Attribute.TENSOR_DATA_TYPE, kind)
        tensor.longs(Attribute.TENSOR_BYTE_ALIGNMENT, self._request.alignment)
        tensor.longs(Attribute.TENSOR_DIMENSIONS, *layout.dims)
        tensor.longs(Attribute.TENSOR_STRIDES, *layout.strides)
        tensor.flag(Attribute.TENSOR_IS_VIRTUAL, virtual)
        return tensor.finalize()

    def _between(self, uid: Uid) -> BackendDescriptor:
        """A tensor like the top that never is in memory."""
        last = self._request.channels_last
        dims = self._request.y.dims
        layout = Layout(dims, dense_strides(dims, channels_last=last), last)
        return self._tensor(uid, layout, virtual=True)

    def _convolution(
        self, x: BackendDescriptor, w: BackendDescriptor, y: BackendDescriptor
    ) -> BackendDescriptor:
        kind, alpha, beta, settings, x_name, w_name, y_name = _OPERATIONS[
            self._request.direction
        ]
        operation = BackendDescriptor(self._library, kind)
        operation.refer(settings, self._settings())
        operation.refer(x_name, x)
        operation.refer(w_name, w)
        operation.refer(y_name, y)
        operation.real(alpha, 1.0, double=self._double)
        operation.real(beta, 0.0, double=self._double)
        return operation.finalize()

    def _settings(self) -> BackendDescriptor:
        g = self._request.geometry
        pad, stride, dilation = g.pad, g.stride, g.dilation
        if len(pad) == 1:
            pad, stride, dilation = (0, *pad), (1, *stride), (1, *dilation)
        made = BackendDescriptor(self._library, Kind.CONVOLUTION)
        made.choose(Attribute.CONVOLUTION_COMP_TYPE, self._compute)
        made.choose(Attribute.CONVOLUTION_CONV_MODE, ConvolutionMode.CROSS_CORRELATION)
        made.longs(Attribute.CONVOLUTION_SPATIAL_DIMS, len(pad))
        made.longs(Attribute.CONVOLUTION_PRE_PADDINGS, *pad)
        made.longs(Attribute.CONVOLUTION_POST_PADDINGS, *pad)
        made.longs(Attribute.CONVOLUTION_FILTER_STRIDES, *stride)
        made.longs(Attribute.CONVOLUTION_DILATIONS, *dilation)
        return made.finalize()

    def _pointwise(
        self,
        mode: Pointwise,
        x: BackendDescriptor,
        b: BackendDescriptor | None,
        y: BackendDescriptor,
        slope: float = 0.0,
    ) -> BackendDescriptor:
        function = BackendDescriptor(self._library, Kind.POINTWISE)
        function.choose(Attribute.POINTWISE_MODE, mode)
        function.choose(Attribute.POINTWISE_MATH_PREC, self._compute)
        if slope:
            name = Attribute.POINTWISE_RELU_LOWER_CLIP_SLOPE
            function.real(name, slope, double=self._double)
        operation = BackendDescriptor(self._library, Kind.OPERATION_POINTWISE)
        operation.refer(
            Attribute.OPERATION_POINTWISE_PW_DESCRIPTOR, function.finalize()
        )
        operation.refer(Attribute.OPERATION_POINTWISE_XDESC, x)
        if b is not None:
            operation.refer(Attribute.OPERATION_POINTWISE_BDESC, b)
        operation.refer(Attribute.OPERATION_POINTWISE_YDESC, y)
        return operation.finalize()
