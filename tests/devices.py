"""The GPU backend of the tests: emulated, or a real GPU's where one is asked for.

``POSEIDON_TEST_GPU=cuda`` (which ``make test-gpu`` sets) runs them on the first GPU.
"""

from __future__ import annotations

import os
from functools import cache

from poseidon_caffe.backend.gpu.settings import GpuSettings
from poseidon_caffe.backend.protocols import Ops
from poseidon_caffe.backend.select import get_ops

ON_CUDA = os.environ.get("POSEIDON_TEST_GPU") == "cuda"


@cache
def gpu_ops(precision: str = "fp32") -> Ops:
    """The backend, made once a precision."""
    settings = GpuSettings(precision=precision, emulated=not ON_CUDA)
    return get_ops("gpu", threads=2, gpu=settings)
