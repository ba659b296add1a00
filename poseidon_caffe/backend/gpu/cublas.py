"""cuBLAS: matrix products on one stream, with a workspace of its own.

CuPy's wrapper of the same library cannot serve here: it puts every product on the
thread's current stream, and it refuses them all while a graph is recorded.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from poseidon_caffe.errors import BackendError

__all__ = ["WORKSPACE_BYTES", "Cublas", "Matrix", "load_cublas"]

WORKSPACE_BYTES = 32 << 20
"""What NVIDIA recommends for Hopper; smaller GPUs do with less."""

# Of cublas_api.h.
_COMPUTE_32F, _COMPUTE_64F = 68, 70
_GEMM_DEFAULT = -1
_DEFAULT_MATH, _TF32_MATH = 0, 3
# Parts of a sum over k are not rounded to 16 bits before they are added.
_WHOLE_SUMS = 16
_CUDA_R_64F = 1

_p, _i, _l = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
_MATRIX = [_p, _i, _l, ctypes.c_longlong]
_SIGNATURES: dict[str, list[Any]] = {
    "cublasCreate_v2": [_p],
    "cublasDestroy_v2": [_p],
    "cublasSetStream_v2": [_p, _p],
    "cublasSetWorkspace_v2": [_p, _p, ctypes.c_size_t],
    "cublasSetMathMode": [_p, _i],
    "cublasGemmStridedBatchedEx_64": [
        _p, _i, _i, _l, _l, _l, _p, *_MATRIX, *_MATRIX, _p, *_MATRIX, _l, _i, _i,
    ],
}  # fmt: skip


class Matrix(NamedTuple):
    """A matrix in column-major memory, or a batch of them.

    Attributes:
        pointer: address of the first one's first element.
        kind: ``cudaDataType`` of the elements.
        stride: elements from column to column.
        step: elements from matrix to matrix.
        transposed: whether it is to be transposed first; not for a result.
    """

    pointer: int
    kind: int
    stride: int
    step: int
    transposed: bool = False


def load_cublas(names: Sequence[str | Path]) -> Any:
    """The library of the first of these names that the system's loader finds.

    Raises:
        BackendError: none can be loaded, or it is older than CUDA 12.
    """
    tried: list[str] = []
    for name in names:
        try:
            library = ctypes.CDLL(str(name))
            for function, arguments in _SIGNATURES.items():
                getattr(library, function).argtypes = arguments
                getattr(library, function).restype = ctypes.c_int
            library.cublasGetStatusString.argtypes = [ctypes.c_int]
            library.cublasGetStatusString.restype = ctypes.c_char_p
        except (OSError, AttributeError) as error:
            tried.append(f"{name}: {error}")
        else:
            return library
    raise BackendError(
        "cuBLAS of CUDA 12 or newer cannot be loaded: pip install nvidia-cublas "
        f"(CUDA 13) or nvidia-cublas-cu12; tried {'; '.join(tried)}"
    )


class Cublas:
    """One handle of the library.

    Args:
        library: from `load_cublas`.
        stream: address of the stream that all products run on.
        workspace: address of `WORKSPACE_BYTES` of device memory, which stay.
        tf32: let float32 products use tensor cores (10 bits of mantissa).

    Raises:
        BackendError: the library cannot be used on the thread's GPU.
    """

    def __init__(
        self, library: Any, stream: int, workspace: int, *, tf32: bool
    ) -> None:
        self._library = library
        made = ctypes.c_void_p()
        self._call("cublasCreate_v2", ctypes.byref(made))
        self._handle = made.value
        destroy = library.cublasDestroy_v2
        weakref.finalize(self, destroy, self._handle).atexit = False
        # In this order: a new stream makes the library forget the workspace.
        self._call("cublasSetStream_v2", self._handle, stream)
        size = WORKSPACE_BYTES
        self._call("cublasSetWorkspace_v2", self._handle, workspace, size)
        mode = (_TF32_MATH if tf32 else _DEFAULT_MATH) | _WHOLE_SUMS
        self._call("cublasSetMathMode", self._handle, mode)

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        if status:
            text = self._library.cublasGetStatusString(status) or b"unknown"
            raise BackendError(f"cuBLAS: {name} failed: {text.decode()} ({status})")

    def gemm(  # noqa: PLR0917 - BLAS's own order
        self,
        m: int,
        n: int,
        k: int,
        alpha: float,
        a: Matrix,
        b: Matrix,
        beta: float,
        c: Matrix,
        batch: int = 1,
    ) -> None:
        """c (m, n) = alpha a (m, k) b (k, n) + beta c, for each of a batch.

        Sums are in float32, or float64 where c is.  The factors are read at once.

        Raises:
            BackendError: the library refuses.
        """
        double = c.kind == _CUDA_R_64F
        factors = ((ctypes.c_double if double else ctypes.c_float) * 2)(alpha, beta)
        at = ctypes.addressof(factors)
        self._call(
            "cublasGemmStridedBatchedEx_64",
            self._handle, int(a.transposed), int(b.transposed), m, n, k,
            at, *a[:4], *b[:4], at + ctypes.sizeof(factors) // 2, *c[:4], batch,
            _COMPUTE_64F if double else _COMPUTE_32F, _GEMM_DEFAULT,
        )  # fmt: skip
