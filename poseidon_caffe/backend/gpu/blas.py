"""Matrix products by cuBLAS, and the sums and additions around them."""

from __future__ import annotations

import numpy as np

from poseidon_caffe.backend.gpu.bias import GpuBias
from poseidon_caffe.backend.gpu.device import Operand
from poseidon_caffe.types import Array

__all__ = ["GpuBlas"]


class GpuBlas(GpuBias):
    """`BlasOps` on a GPU: 2-D C-contiguous arrays.

    Parameters and their gradients may be float32 where the rest has 16 bits: a product
    then takes a rounded copy of what it reads, and writes float32.
    """

    def gemm(
        self,
        a: Array,
        b: Array,
        c: Array,
        *,
        trans_a: bool = False,
        trans_b: bool = False,
        alpha: float = 1.0,
        beta: float = 0.0,
    ) -> None:
        """C = alpha op(A) op(B) + beta C; with beta 0 C is never read."""
        m, n = c.shape
        k = a.shape[0] if trans_a else a.shape[1]
        if not c.size:
            return
        if not k:
            self._scale(c, beta)
            return
        dtype = min(a.dtype, b.dtype, key=lambda kind: kind.itemsize)
        left, right = (
            self.rounded(f"gemm {name}", x, dtype) for name, x in (("a", a), ("b", b))
        )
        self.device.gemm(
            m,
            n,
            k,
            alpha,
            Operand(left, a.shape[1], transposed=trans_a),
            Operand(right, b.shape[1], transposed=trans_b),
            beta,
            Operand(c, n),
        )

    def rounded(self, name: str, array: Array, dtype: np.dtype) -> Array:
        """``array`` as ``dtype``: itself, or a copy in scratch memory."""
        if array.dtype == dtype:
            return array
        copy = self.scratch.take(f"rounded {name}", array.shape, dtype)
        self.copy(array, copy)
        return copy

    def _scale(self, c: Array, beta: float) -> None:
        if beta == 0:
            self.memory.clear(c)
        else:
            self.kernels("blas").each("scale", c.dtype, c.size, c, c.size, beta)

    def inner_product(
        self, x: Array, w: Array, b: Array | None, y: Array, *,
        transpose: bool = False, relu: float | None = None,
    ) -> None:  # fmt: skip
        """y (M, N) = relu?(x (M, K) w^T + b); bias and ReLU are one pass."""
        self.gemm(x, w, y, trans_b=not transpose)
        self.add_bias(y, b, relu)

    def inner_product_backward_data(
        self, dy: Array, w: Array, dx: Array, *, transpose: bool = False
    ) -> None:
        """dx (M, K) = dy (M, N) w."""
        self.gemm(dy, w, dx, trans_b=transpose)

    def inner_product_backward_weights(
        self,
        x: Array,
        dy: Array,
        dw: Array,
        db: Array | None,
        *,
        transpose: bool = False,
        accumulate: bool = False,
    ) -> None:
        """dw (+)= dy^T x and db (+)= column sums of dy."""
        beta = 1.0 if accumulate else 0.0
        first, second = (x, dy) if transpose else (dy, x)
        self.gemm(first, second, dw, trans_a=True, beta=beta)
        if db is not None:
            self.column_sums(dy, db, accumulate=accumulate)

    def column_sums(self, x: Array, sums: Array, *, accumulate: bool) -> None:
        """sums (N,) (+)= x (M, N) added up over M, in a fixed order."""
        rows, columns = x.shape
        blocks = -(-columns // 32)
        self.kernels("blas").blocks(
            "column_sums", x.dtype, blocks, x, sums, rows, columns, accumulate
        )
