"""Matrix products through NumPy's own BLAS."""

from __future__ import annotations

import numpy as np

from poseidon_caffe.backend.reference.activation import rectify
from poseidon_caffe.types import Array

__all__ = ["ReferenceBlas", "blas_ready"]


def blas_ready(a: Array) -> Array:
    """``a``, copied if NumPy's matmul could not hand its layout to BLAS.

    matmul falls back to a plain loop, far slower than a copy, unless one of the
    last two axes is contiguous.
    """
    if a.size == 0 or a.itemsize in a.strides[-2:]:
        return a
    return np.ascontiguousarray(a)


class ReferenceBlas:
    """`BlasOps` by numpy.matmul; arrays may have any strides."""

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
        op_a = blas_ready(a.T if trans_a else a)
        op_b = blas_ready(b.T if trans_b else b)
        if beta == 0.0:
            np.matmul(op_a, op_b, out=c)
            if alpha != 1.0:
                c *= alpha
            return
        product = np.matmul(op_a, op_b)
        if alpha != 1.0:
            product *= alpha
        if beta != 1.0:
            c *= beta
        c += product

    def inner_product(
        self, x: Array, w: Array, b: Array | None, y: Array, *,
        transpose: bool = False, relu: float | None = None,
    ) -> None:  # fmt: skip
        """y (M, N) = relu?(x (M, K) w^T + b); w is (N, K), or (K, N) if ``transpose``.

        ``relu`` is the slope of negative values; None for no ReLU.
        """
        self.gemm(x, w, y, trans_b=not transpose)
        if b is not None:
            y += b
        if relu is not None:
            rectify(y, y, relu)

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
            if not accumulate:
                db[...] = 0
            db += dy.sum(axis=0)
