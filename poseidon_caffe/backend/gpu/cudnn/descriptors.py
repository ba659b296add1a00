"""cuDNN's descriptors: made from numbers, destroyed with their Python owner."""

from __future__ import annotations

import contextlib

import numpy as np

from poseidon_caffe.backend.gpu.cudnn.constants import (
    ActivationMode,
    ConvolutionMode,
    DataType,
    MathType,
    NanPropagation,
    PoolingMode,
    TensorFormat,
    data_type,
)
from poseidon_caffe.backend.gpu.cudnn.layout import Layout, padded_axes
from poseidon_caffe.backend.gpu.cudnn.library import Library
from poseidon_caffe.errors import BackendError
from poseidon_caffe.types import Shape

__all__ = [
    "ActivationDescriptor",
    "ConvolutionDescriptor",
    "Descriptor",
    "DescriptorCache",
    "FilterDescriptor",
    "LrnDescriptor",
    "PoolingDescriptor",
    "TensorDescriptor",
    "one_per_channel",
]


class Descriptor:
    """A descriptor of the library; its address goes into calls.

    Attributes:
        library: whose.
        address: of the descriptor; 0 once closed.

    Args:
        library: that makes it.
        kind: as the functions ``cudnnCreate<kind>Descriptor`` say it.
    """

    def __init__(self, library: Library, kind: str) -> None:
        self.address = 0
        self.library = library
        self._destroy = f"cudnnDestroy{kind}Descriptor"
        self.address = library.create(f"cudnnCreate{kind}Descriptor")

    def close(self) -> None:
        """Destroy it; harmless when done before."""
        address, self.address = self.address, 0
        if address:
            self.library.attempt(self._destroy, address)

    def __del__(self) -> None:
        # At the interpreter's end the library's functions may be gone already.
        with contextlib.suppress(AttributeError, TypeError):
            self.close()


class TensorDescriptor(Descriptor):
    """Activations, or a row of numbers per channel: dtype, dimensions, strides."""

    def __init__(
        self, library: Library, dtype: np.dtype | type, layout: Layout
    ) -> None:
        super().__init__(library, "Tensor")
        library.call(
            "cudnnSetTensorNdDescriptor", self.address, data_type(dtype),
            len(layout.dims), library.ints(layout.dims), library.ints(layout.strides),
        )  # fmt: skip


class FilterDescriptor(Descriptor):
    """Weights (K, C / group, *kernel), dense, in the order of the activations."""

    def __init__(
        self,
        library: Library,
        dtype: np.dtype | type,
        shape: Shape,
        *,
        channels_last: bool,
    ) -> None:
        super().__init__(library, "Filter")
        order = TensorFormat.NHWC if channels_last else TensorFormat.NCHW
        dims = padded_axes(shape)
        library.call(
            "cudnnSetFilterNdDescriptor", self.address, data_type(dtype), order,
            len(dims), library.ints(dims),
        )  # fmt: skip


class ConvolutionDescriptor(Descriptor):
    """A convolution's pads, steps and arithmetic; 1-D ones become 2-D.

    Half and bfloat16 data is summed in float32, float64 data in float64.
    """

    def __init__(
        self,
        library: Library,
        dtype: np.dtype | type,
        window: tuple[Shape, Shape, Shape],
        group: int,
        math: MathType,
    ) -> None:
        super().__init__(library, "Convolution")
        pad, stride, dilation = window
        if len(pad) == 1:
            pad, stride, dilation = (0, *pad), (1, *stride), (1, *dilation)
        double = data_type(dtype) is DataType.DOUBLE
        library.call(
            "cudnnSetConvolutionNdDescriptor", self.address, len(pad),
            library.ints(pad), library.ints(stride), library.ints(dilation),
            ConvolutionMode.CROSS_CORRELATION,
            DataType.DOUBLE if double else DataType.FLOAT,
        )  # fmt: skip
        library.call("cudnnSetConvolutionGroupCount", self.address, group)
        self.set_math(math)

    def set_math(self, math: int) -> None:
        """Choose the arithmetic (`MathType`) from here on."""
        self.library.call("cudnnSetConvolutionMathType", self.address, math)

    def output_dims(self, x: TensorDescriptor, w: FilterDescriptor, axes: int) -> Shape:
        """What the library says the top's dimensions are; ``axes`` of x."""
        dims = self.library.ints([0] * axes)
        self.library.call(
            "cudnnGetConvolutionNdForwardOutputDim",
            self.address, x.address, w.address, axes, dims,
        )  # fmt: skip
        return tuple(dims)


class ActivationDescriptor(Descriptor):
    """A function of each element; ``coef`` is ELU's alpha.

    NaN stays NaN, as in Caffe.  The identity, which only serves to add a bias, says
    nothing of that: cuDNN adds none in one go with a convolution otherwise.
    """

    def __init__(
        self, library: Library, mode: ActivationMode, coef: float = 0.0
    ) -> None:
        super().__init__(library, "Activation")
        identity = mode is ActivationMode.IDENTITY
        nan = NanPropagation.NOT_PROPAGATE if identity else NanPropagation.PROPAGATE
        library.call("cudnnSetActivationDescriptor", self.address, mode, nan, coef)


class PoolingDescriptor(Descriptor):
    """Windows over the spatial axes.  Maxima ignore NaN, as Caffe's do."""

    def __init__(
        self,
        library: Library,
        mode: PoolingMode,
        kernel: Shape,
        pad: Shape,
        stride: Shape,
    ) -> None:
        super().__init__(library, "Pooling")
        library.call(
            "cudnnSetPoolingNdDescriptor", self.address, mode,
            NanPropagation.NOT_PROPAGATE, len(kernel), library.ints(kernel),
            library.ints(pad), library.ints(stride),
        )  # fmt: skip

    def output_dims(self, x: TensorDescriptor, axes: int) -> Shape:
        """What the library says the top's dimensions are; ``axes`` of x."""
        dims = self.library.ints([0] * axes)
        self.library.call(
            "cudnnGetPoolingNdForwardOutputDim", self.address, x.address, axes, dims
        )
        return tuple(dims)


class LrnDescriptor(Descriptor):
    """Local response normalisation; the library divides alpha by ``size``, as Caffe."""

    def __init__(
        self, library: Library, size: int, alpha: float, beta: float, k: float
    ) -> None:
        super().__init__(library, "LRN")
        library.call("cudnnSetLRNDescriptor", self.address, size, alpha, beta, k)


class DescriptorCache:
    """Tensor descriptors, each made once.

    Args:
        library: that makes them.
    """

    def __init__(self, library: Library) -> None:
        self._library = library
        self._made: dict[tuple[DataType, Layout], TensorDescriptor] = {}

    def tensor(self, dtype: np.dtype | type, layout: Layout) -> TensorDescriptor:
        """The descriptor of arrays of this dtype that lie so."""
        key = (data_type(dtype), layout)
        made = self._made.get(key)
        if made is None:
            made = TensorDescriptor(self._library, dtype, layout)
            self._made[key] = made
        return made

    def close(self) -> None:
        """Destroy all of them."""
        for made in self._made.values():
            made.close()
        self._made.clear()


def one_per_channel(channels: int, axes: int) -> Layout:
    """The layout of a bias or a statistic: (1, C, 1, ...) with ``axes`` axes.

    Raises:
        BackendError: there are no channels.
    """
    if channels < 1:
        raise BackendError(f"cuDNN needs at least one channel, not {channels}")
    dims = (1, channels, *[1] * (axes - 2))
    return Layout(dims, (channels, *[1] * (axes - 1)), channels_last=False)
