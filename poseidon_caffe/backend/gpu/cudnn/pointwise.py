"""Softmax and activations on cuDNN, for arrays of any shape."""

from __future__ import annotations

import math

import numpy as np

from poseidon_caffe.backend.gpu.cudnn.constants import (
    ActivationMode,
    SoftmaxAlgorithm,
    SoftmaxMode,
)
from poseidon_caffe.backend.gpu.cudnn.descriptors import ActivationDescriptor
from poseidon_caffe.backend.gpu.cudnn.handle import Handle
from poseidon_caffe.backend.gpu.cudnn.layout import (
    Layout,
    address_of,
    dense_strides,
)
from poseidon_caffe.errors import BackendError
from poseidon_caffe.types import Array, Shape

__all__ = ["CudnnActivation", "CudnnSoftmax", "softmax_layout"]

_MOST_ELEMENTS = 2**31 - 1


def softmax_layout(shape: Shape, axis: int) -> Layout:
    """A contiguous array as cuDNN sees it: (before, axis, after, 1).

    Raises:
        BackendError: it is empty, or too large for 32-bit numbers.
    """
    elements = math.prod(shape)
    if not 0 < elements <= _MOST_ELEMENTS:
        raise BackendError(f"cuDNN takes 1 to 2**31 - 1 elements, not {elements}")
    before, after = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    dims = (before, shape[axis], after, 1)
    return Layout(dims, dense_strides(dims, channels_last=False), channels_last=False)


class CudnnSoftmax:
    """exp(x - max) / sum along one axis; arrays are contiguous and not empty.

    Args:
        handle: the library on a device.
    """

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    def forward(self, x: Array, y: Array, axis: int = 1) -> None:
        """y = softmax of x along ``axis``; y may be x."""
        handle = self._handle
        tensor = handle.tensor(x.dtype, softmax_layout(x.shape, axis))
        handle.call(
            "cudnnSoftmaxForward", SoftmaxAlgorithm.ACCURATE, SoftmaxMode.CHANNEL,
            handle.factor(1.0, x.dtype), tensor, address_of(x),
            handle.factor(0.0, x.dtype), tensor, address_of(y),
        )  # fmt: skip

    def backward(self, y: Array, dy: Array, dx: Array, axis: int = 1) -> None:
        """dx = y (dy - sum of y dy along ``axis``); dx is not dy."""
        handle = self._handle
        tensor = handle.tensor(y.dtype, softmax_layout(y.shape, axis))
        handle.call(
            "cudnnSoftmaxBackward", SoftmaxAlgorithm.ACCURATE, SoftmaxMode.CHANNEL,
            handle.factor(1.0, y.dtype), tensor, address_of(y), tensor, address_of(dy),
            handle.factor(0.0, y.dtype), tensor, address_of(dx),
        )  # fmt: skip


class CudnnActivation:
    """A function of each element; arrays of a call are dense and lie alike.

    ReLU (without a slope), sigmoid, tanh and ELU are those of Caffe.

    Args:
        handle: the library on a device.
        mode: which function.
        alpha: of ELU.
    """

    def __init__(
        self, handle: Handle, mode: ActivationMode, alpha: float = 0.0
    ) -> None:
        self._handle = handle
        self._descriptor = ActivationDescriptor(handle.library, mode, alpha)

    def _tensor(self, dtype: np.dtype, size: int) -> int:
        return self._handle.tensor(dtype, softmax_layout((size,), 0))

    def forward(self, x: Array, y: Array) -> None:
        """y = f(x); y may be x."""
        handle, tensor = self._handle, self._tensor(x.dtype, x.size)
        handle.call(
            "cudnnActivationForward", self._descriptor.address,
            handle.factor(1.0, x.dtype), tensor, address_of(x),
            handle.factor(0.0, x.dtype), tensor, address_of(y),
        )  # fmt: skip

    def backward(self, x: Array, y: Array, dy: Array, dx: Array) -> None:
        """dx = dy f'(x), given y = f(x); dx may be dy."""
        handle, tensor = self._handle, self._tensor(x.dtype, x.size)
        handle.call(
            "cudnnActivationBackward", self._descriptor.address,
            handle.factor(1.0, x.dtype), tensor, address_of(y), tensor, address_of(dy),
            tensor, address_of(x), handle.factor(0.0, x.dtype), tensor, address_of(dx),
        )  # fmt: skip
