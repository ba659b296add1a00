"""Enums against the library's own headers, where they are installed beside it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from poseidon_caffe.backend.gpu.cudnn import constants, graph_constants
from poseidon_caffe.backend.gpu.cudnn.constants import DataType, data_type
from poseidon_caffe.errors import BackendError

PREFIXES = {
    "DataType": "CUDNN_DATA_",
    "TensorFormat": "CUDNN_TENSOR_",
    "ConvolutionMode": "CUDNN_",
    "Determinism": "CUDNN_",
    "ActivationMode": "CUDNN_ACTIVATION_",
    "PoolingMode": "CUDNN_POOLING_",
    "SoftmaxAlgorithm": "CUDNN_SOFTMAX_",
    "SoftmaxMode": "CUDNN_SOFTMAX_MODE_",
    "LrnMode": "CUDNN_LRN_",
    "BatchNormMode": "CUDNN_BATCHNORM_",
    "BatchNormOps": "CUDNN_BATCHNORM_OPS_",
    "Attribute": "CUDNN_ATTR_",
    "AttributeType": "CUDNN_TYPE_",
    "Heuristic": "CUDNN_HEUR_MODE_",
    "Note": "CUDNN_NUMERICAL_NOTE_",
    "Pointwise": "CUDNN_POINTWISE_",
}


def c_name(kind, member):
    if kind == "MathType":
        return f"CUDNN_{member}_MATH".replace(
            "_ALLOW_CONVERSION_MATH", "_MATH_ALLOW_CONVERSION"
        )
    if kind == "Kind":
        return f"CUDNN_BACKEND_{member}_DESCRIPTOR"
    if kind == "NanPropagation":
        return f"CUDNN_{member}_NAN"
    name = PREFIXES[kind] + member
    return name.replace("POOLING_AVERAGE_", "POOLING_AVERAGE_COUNT_")


@pytest.fixture(scope="module")
def header(library):
    folder = Path(library.path).resolve().parent.parent / "include"
    files = [folder / f"cudnn_{name}.h" for name in ("graph", "ops", "cnn")]
    if not all(file.exists() for file in files):
        pytest.skip(f"no headers in {folder}")
    text = "".join(file.read_text() for file in files)
    return re.sub(r"/\*.*?\*/", " ", text, flags=re.DOTALL)


@pytest.mark.parametrize("module", [constants, graph_constants])
def test_values_are_the_headers(header, module):
    known = {
        name: int(value)
        for name, value in re.findall(
            r"\b(CUDNN_\w+)(?:\s+CUDNN_DEPRECATED_ENUM)?\s*=\s*(-?\d+)", header
        )
    }
    enums = [getattr(module, name) for name in module.__all__ if name[0].isupper()]
    assert enums
    for enum in enums:
        for member in enum:
            assert known[c_name(enum.__name__, member.name)] == member, member


def test_data_types():
    assert data_type(np.float32) is DataType.FLOAT
    assert data_type(np.dtype("uint16")) is DataType.BFLOAT16
    with pytest.raises(BackendError, match="no kernels for int32"):
        data_type(np.int32)
