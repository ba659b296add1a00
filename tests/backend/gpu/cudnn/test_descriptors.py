"""Descriptors of the real library, which computes shapes without a device."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.geometry import ConvGeometry
from poseidon_caffe.backend.gpu.cudnn.constants import (
    ActivationMode,
    MathType,
    PoolingMode,
)
from poseidon_caffe.backend.gpu.cudnn.descriptors import (
    ActivationDescriptor,
    ConvolutionDescriptor,
    FilterDescriptor,
    LrnDescriptor,
    PoolingDescriptor,
    TensorDescriptor,
    one_per_channel,
)
from poseidon_caffe.backend.gpu.cudnn.layout import Layout, dense_strides, padded_axes
from poseidon_caffe.errors import BackendError

CASES = [
    ConvGeometry((2, 3, 17, 16), 4, (3, 5), (2, 1), (1, 0), (1, 2)),
    ConvGeometry((2, 4, 11), 6, (3,), (2,), (1,), (2,), group=2),
    ConvGeometry((2, 3, 7, 8, 9), 4, (3, 2, 1), (2, 1, 3), (1, 0, 0), (1, 2, 1)),
]


def lay(shape, last):
    dims = padded_axes(shape)
    return Layout(dims, dense_strides(dims, channels_last=last), last)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "uint16"])
@pytest.mark.parametrize("g", CASES)
def test_the_library_sees_the_tops_shape_as_caffe_does(library, g, dtype, last):
    x = TensorDescriptor(library, dtype, lay(g.x_shape, last))
    w = FilterDescriptor(library, dtype, g.w_shape, channels_last=last)
    math = MathType.FMA if dtype == "float32" else MathType.DEFAULT
    window = (g.pad, g.stride, g.dilation)
    made = ConvolutionDescriptor(library, dtype, window, g.group, math)
    axes = max(4, len(g.x_shape))
    assert made.output_dims(x, w, axes) == padded_axes(g.y_shape)
    group, kept = library.ints(), library.ints()
    library.call("cudnnGetConvolutionGroupCount", made.address, group)
    library.call("cudnnGetConvolutionMathType", made.address, kept)
    assert (group[0], kept[0]) == (g.group, math)
    made.close()
    made.close()
    assert made.address == 0


@pytest.mark.parametrize("last", [False, True])
def test_the_library_keeps_dimensions_and_strides(library, last):
    layout = lay((2, 3, 4, 5), last)
    tensor = TensorDescriptor(library, "float16", layout)
    kind, count, size = library.ints(), library.ints(), library.sizes()
    dims, strides = library.ints([0] * 8), library.ints([0] * 8)
    library.call(
        "cudnnGetTensorNdDescriptor", tensor.address, 8, kind, count, dims, strides
    )
    assert (kind[0], count[0]) == (2, 4)
    assert tuple(dims[:4]) == layout.dims
    assert tuple(strides[:4]) == layout.strides
    library.call("cudnnGetTensorSizeInBytes", tensor.address, size)
    assert size[0] == 240


def test_the_library_sees_pooled_shapes_as_caffe_does_without_rounding(library):
    x = TensorDescriptor(library, "float32", lay((2, 3, 7, 9), False))
    mode = PoolingMode.AVERAGE_INCLUDE_PADDING
    pool = PoolingDescriptor(library, mode, (3, 3), (1, 1), (2, 2))
    assert pool.output_dims(x, 4) == (2, 3, 4, 5)


def test_other_descriptors_are_accepted(library):
    for mode in ActivationMode:
        assert ActivationDescriptor(library, mode, 0.5).address
    # The limits that `lrn.supports` knows.
    assert LrnDescriptor(library, 15, 1e-4, 0.75, 1.0).address
    assert LrnDescriptor(library, 1, 1e-4, 0.01, 1e-5).address
    for wrong in ((17, 1e-4, 0.75, 1.0), (5, 1e-4, 0.001, 1.0), (5, 1e-4, 0.75, 0.0)):
        with pytest.raises(BackendError, match="cudnnSetLRNDescriptor failed"):
            LrnDescriptor(library, *wrong)


def test_one_number_per_channel():
    layout = one_per_channel(6, 5)
    assert layout.dims == (1, 6, 1, 1, 1)
    assert np.prod(layout.dims) == 6
    with pytest.raises(BackendError, match="at least one channel"):
        one_per_channel(0, 4)
