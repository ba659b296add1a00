"""The GPU backend of the tests: emulated, or a real GPU's where one is asked for.

``POSEIDON_TEST_GPU=cuda`` (which ``make test-gpu`` sets) runs them on the first GPU.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from typing import Any

import numpy as np

from poseidon_caffe.backend.gpu.settings import GpuSettings
from poseidon_caffe.backend.protocols import Ops
from poseidon_caffe.backend.select import get_ops

ON_CUDA = os.environ.get("POSEIDON_TEST_GPU") == "cuda"


@cache
def gpu_ops(precision: str = "fp32") -> Ops:
    """The backend, made once a precision."""
    settings = GpuSettings(precision=precision, emulated=not ON_CUDA)
    return get_ops("gpu", threads=2, gpu=settings)


def greet_gpu() -> str:
    """What the real GPU and its libraries are, once they have done something small.

    Raises:
        Exception: whatever went wrong; no test of theirs could pass.
    """
    import cupy

    ops: Any = gpu_ops()
    one, all_ones = (ops.memory.zeros(4, np.float32).reshape(2, 2) for _ in range(2))
    ops.kernels("blas").each("fill", one.dtype, one.size, one, one.size, 1.0)
    ops.gemm(one, one, all_ones)
    values = np.zeros((2, 2), np.float32)
    ops.memory.download(all_ones, values)
    if not (values == 2).all():
        raise AssertionError(f"the GPU says that 1 1 + 1 1 is {values.tolist()}")
    library = getattr(getattr(ops, "_cudnn", None), "library", None)
    cudnn = "none" if library is None else ".".join(map(str, library.version))
    runtime = cupy.cuda.runtime
    return (
        f"{ops.device.name} {ops.device.compute_capability}, driver for CUDA "
        f"{runtime.driverGetVersion()}, CuPy {cupy.__version__} for CUDA "
        f"{runtime.runtimeGetVersion()}, cuDNN {cudnn}. {ops.note or ''}"
    )


def lost_gpu() -> str | None:
    """What CUDA says where no work will be done any more; None where all is well."""
    cupy = sys.modules.get("cupy") if ON_CUDA else None
    said = None
    # One failure may be of the work that was given; what stays is for good.
    for _ in range(2 if cupy else 0):
        try:
            cupy.cuda.runtime.deviceSynchronize()
        except Exception as error:  # noqa: BLE001 - any is as bad
            said = str(error)
        else:
            return None
    return said
