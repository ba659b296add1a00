"""cuDNN's enums, as far as they are used; values are those of its C headers."""

from __future__ import annotations

import enum

import numpy as np

from poseidon_caffe.backend.gpu.device import BFLOAT16
from poseidon_caffe.errors import BackendError

__all__ = [
    "ActivationMode",
    "BatchNormMode",
    "BatchNormOps",
    "ConvolutionMode",
    "DataType",
    "Determinism",
    "LrnMode",
    "MathType",
    "NanPropagation",
    "PoolingMode",
    "SoftmaxAlgorithm",
    "SoftmaxMode",
    "TensorFormat",
    "data_type",
]


class DataType(enum.IntEnum):
    """``cudnnDataType_t``."""

    FLOAT = 0
    DOUBLE = 1
    HALF = 2
    BFLOAT16 = 9


class TensorFormat(enum.IntEnum):
    """``cudnnTensorFormat_t``."""

    NCHW = 0
    NHWC = 1


class MathType(enum.IntEnum):
    """``cudnnMathType_t``: what a convolution may compute with.

    DEFAULT lets float32 run as TF32 on tensor cores (Ampere and newer), FMA keeps
    float32 whole.  TENSOR_OP is for data that is half or bfloat16 already;
    ALLOW_CONVERSION would round float32 data to half, which is not TF32.
    """

    DEFAULT = 0
    TENSOR_OP = 1
    TENSOR_OP_ALLOW_CONVERSION = 2
    FMA = 3


class ConvolutionMode(enum.IntEnum):
    """``cudnnConvolutionMode_t``: Caffe's convolution does not flip the kernel."""

    CONVOLUTION = 0
    CROSS_CORRELATION = 1


class Determinism(enum.IntEnum):
    """``cudnnDeterminism_t``."""

    NON_DETERMINISTIC = 0
    DETERMINISTIC = 1


class NanPropagation(enum.IntEnum):
    """``cudnnNanPropagation_t``."""

    NOT_PROPAGATE = 0
    PROPAGATE = 1


class ActivationMode(enum.IntEnum):
    """``cudnnActivationMode_t``."""

    SIGMOID = 0
    RELU = 1
    TANH = 2
    ELU = 4
    IDENTITY = 5


class PoolingMode(enum.IntEnum):
    """``cudnnPoolingMode_t``."""

    MAX = 0
    AVERAGE_INCLUDE_PADDING = 1
    AVERAGE_EXCLUDE_PADDING = 2
    MAX_DETERMINISTIC = 3


class SoftmaxAlgorithm(enum.IntEnum):
    """``cudnnSoftmaxAlgorithm_t``; ACCURATE subtracts the maximum first."""

    FAST = 0
    ACCURATE = 1
    LOG = 2


class SoftmaxMode(enum.IntEnum):
    """``cudnnSoftmaxMode_t``: over all of an image, or over axis 1 per place."""

    INSTANCE = 0
    CHANNEL = 1


class LrnMode(enum.IntEnum):
    """``cudnnLRNMode_t``."""

    CROSS_CHANNEL_DIM1 = 0


class BatchNormMode(enum.IntEnum):
    """``cudnnBatchNormMode_t``."""

    PER_ACTIVATION = 0
    SPATIAL = 1
    SPATIAL_PERSISTENT = 2


class BatchNormOps(enum.IntEnum):
    """``cudnnBatchNormOps_t``."""

    BN = 0


_BY_DTYPE = {
    "float32": DataType.FLOAT,
    "float64": DataType.DOUBLE,
    "float16": DataType.HALF,
    BFLOAT16.name: DataType.BFLOAT16,
}


def data_type(dtype: np.dtype | type) -> DataType:
    """What cuDNN calls ``dtype`` (arrays of bfloat16 are marked as uint16).

    Raises:
        BackendError: cuDNN's floating point kernels have no such type.
    """
    name = np.dtype(dtype).name
    if name not in _BY_DTYPE:
        msg = f"cuDNN has no kernels for {name}, only for {', '.join(_BY_DTYPE)}"
        raise BackendError(msg)
    return _BY_DTYPE[name]
