"""Calls of cuBLAS, against a library of our own that multiplies as the real one."""

from __future__ import annotations

import gc
import itertools
import subprocess

import numpy as np
import pytest

from poseidon_caffe.backend.gpu.cublas import (
    WORKSPACE_BYTES,
    Cublas,
    Matrix,
    load_cublas,
)
from poseidon_caffe.errors import BackendError

SOURCE = r"""
#include <cstdint>
#include <cstddef>
static int64_t noted[8];  // handles, stream, workspace, bytes, mode, compute, destroyed
template <class V>
static void multiply(int ta, int tb, int64_t m, int64_t n, int64_t k, V alpha,
                     const V *a, int64_t lda, const V *b, int64_t ldb, V beta, V *c,
                     int64_t ldc) {
  for (int64_t i = 0; i < m; i++)
    for (int64_t j = 0; j < n; j++) {
      V sum = 0;
      for (int64_t l = 0; l < k; l++)
        sum += (ta ? a[l + i * lda] : a[i + l * lda]) *
               (tb ? b[j + l * ldb] : b[l + j * ldb]);
      V old = beta ? beta * c[i + j * ldc] : 0;
      c[i + j * ldc] = alpha * sum + old;
    }
}
extern "C" {
int64_t *notes() { return noted; }
int cublasCreate_v2(void **made) { *made = &noted[++noted[0]]; return 0; }
int cublasDestroy_v2(void *) { noted[6]++; return 0; }
int cublasSetStream_v2(void *, void *stream) {
  noted[1] = (int64_t)stream, noted[2] = noted[3] = 0;  // as the real one
  return 0;
}
int cublasSetWorkspace_v2(void *, void *at, size_t bytes) {
  noted[2] = (int64_t)at, noted[3] = bytes;
  return 0;
}
int cublasSetMathMode(void *, int mode) { noted[4] = mode; return 0; }
const char *cublasGetStatusString(int) { return "CUBLAS_STATUS_MADE_UP"; }
int cublasGemmStridedBatchedEx_64(
    void *, int ta, int tb, int64_t m, int64_t n, int64_t k, const void *alpha,
    const void *a, int ka, int64_t lda, long long sa, const void *b, int kb,
    int64_t ldb, long long sb, const void *beta, void *c, int kc, int64_t ldc,
    long long sc, int64_t batch, int compute, int algorithm) {
  noted[5] = compute;
  if (ka != kb || kb != kc || algorithm != -1 || m > (int64_t(1) << 40)) return 7;
  for (int64_t i = 0; i < batch; i++)
    if (kc == 1)
      multiply(ta, tb, m, n, k, *(double *)alpha, (double *)a + i * sa, lda,
               (double *)b + i * sb, ldb, *(double *)beta, (double *)c + i * sc, ldc);
    else
      multiply(ta, tb, m, n, k, *(float *)alpha, (float *)a + i * sa, lda,
               (float *)b + i * sb, ldb, *(float *)beta, (float *)c + i * sc, ldc);
  return 0;
}
}
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cublas")
    source, target = folder / "stand_in.cpp", folder / "libcublas.so"
    source.write_text(SOURCE)
    command = ["g++", "-shared", "-fPIC", "-o", str(target), str(source)]
    subprocess.run(command, check=True)
    return load_cublas(["libnothing.so.1", target])


def notes(library):
    import ctypes

    library.notes.restype = ctypes.POINTER(ctypes.c_int64)
    return library.notes()


# CUBLAS_DEFAULT_MATH or CUBLAS_TF32_TENSOR_OP_MATH, and in both
# CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION (16).
@pytest.mark.parametrize(("tf32", "mode"), [(False, 16), (True, 3 + 16)])
def test_a_handle_has_its_stream_then_its_workspace(library, tf32, mode):
    cublas = Cublas(library, 0x1234, 1 << 40, tf32=tf32)
    seen = notes(library)
    assert list(seen[1:5]) == [0x1234, 1 << 40, WORKSPACE_BYTES, mode]
    destroyed = seen[6]
    del cublas
    gc.collect()
    assert seen[6] == destroyed + 1


def column_major(array, kind, *, transposed=False):
    """A batch (n, rows, columns) of row-major matrices is one of transposed ones."""
    n, rows, columns = array.shape
    return Matrix(
        array.ctypes.data, kind, columns, rows * columns * (n > 1), transposed
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products(library, dtype):
    cublas = Cublas(library, 1, 256, tf32=False)
    kind, rng = int(dtype == np.float64), np.random.default_rng(0)
    for ta, tb, beta in itertools.product((False, True), (False, True), (0.0, 0.5)):
        a = rng.standard_normal((2, 3, 4)).astype(dtype)
        b = rng.standard_normal((2, 4, 5)).astype(dtype)
        c = rng.standard_normal((2, 3, 5)).astype(dtype)
        want = 2 * a @ b + beta * c
        left = np.ascontiguousarray(a.transpose(0, 2, 1)) if ta else a
        right = np.ascontiguousarray(b.transpose(0, 2, 1)) if tb else b
        # Row-major c = a b is column-major c' = b' a'.
        cublas.gemm(
            5, 3, 4, 2.0, column_major(right, kind, transposed=tb),
            column_major(left, kind, transposed=ta), beta, column_major(c, kind), 2,
        )  # fmt: skip
        np.testing.assert_allclose(c, want, rtol=1e-5, atol=1e-6)
        assert notes(library)[5] == (70 if dtype == np.float64 else 68)


def test_failures_say_what_failed(library):
    cublas = Cublas(library, 1, 256, tf32=False)
    x = np.zeros((1, 2, 2), np.float32)
    one, other = column_major(x, 0), column_major(x, 2)
    with pytest.raises(BackendError, match=r"GemmStridedBatched.*MADE_UP \(7\)"):
        cublas.gemm(2, 2, 2, 1.0, one, other, 0.0, one)
    # Numbers of more than 32 bits arrive whole.
    with pytest.raises(BackendError, match="failed"):
        cublas.gemm((1 << 40) + 1, 2, 2, 1.0, one, one, 0.0, one)


def test_no_library():
    with pytest.raises(BackendError, match=r"cannot be loaded.*libnothing\.so\.1"):
        load_cublas(["libnothing.so.1"])
