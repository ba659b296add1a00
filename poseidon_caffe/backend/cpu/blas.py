"""Matrix products: oneDNN's matmul forward, its gemm backward (see docs)."""

from __future__ import annotations

import numpy as np

from poseidon_caffe.backend.cpu.dnnl import Alg, Arg, Desc, Dnnl, Primitive
from poseidon_caffe.backend.cpu.eltwise import DnnlEltwise
from poseidon_caffe.backend.reference.blas import ReferenceBlas
from poseidon_caffe.types import Array

__all__ = ["CpuBlas"]

_FLOAT32 = np.dtype(np.float32)


def _plain(*arrays: Array) -> bool:
    return all(a.dtype == _FLOAT32 and a.size and a.flags.c_contiguous for a in arrays)


class CpuBlas(DnnlEltwise, ReferenceBlas):
    """`BlasOps` on oneDNN, which shares its threads with every other kernel."""

    dnnl: Dnnl

    def __init__(self) -> None:
        super().__init__()
        self._products: dict[tuple[int, int, int, bool, bool], Primitive] = {}

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
        """C = alpha op(A) op(B) + beta C."""
        if _plain(a, b, c):
            self.dnnl.sgemm(
                a, b, c, trans_a=trans_a, trans_b=trans_b, alpha=alpha, beta=beta
            )
        else:
            super().gemm(
                a, b, c, trans_a=trans_a, trans_b=trans_b, alpha=alpha, beta=beta
            )

    def _product(
        self, m: int, n: int, k: int, *, transpose: bool, bias: bool
    ) -> Primitive:
        """y (m, n) = x (m, k) w [+ b], w stored (n, k) or, transposed, (k, n)."""
        key = (m, n, k, transpose, bias)
        if key not in self._products:
            dnnl = self.dnnl
            x, y = dnnl.desc((m, k), (k, 1)), dnnl.desc((m, n), (n, 1))
            w = dnnl.desc((k, n), (n, 1) if transpose else (1, k))
            b = dnnl.desc((1, n), (n, 1)) if bias else None
            desc = dnnl.describe("matmul", x, w, b, y)
            operands: dict[int, Desc] = {Arg.SRC: x, Arg.WEIGHTS: w, Arg.DST: y}
            if b is not None:
                operands[Arg.BIAS] = b
            self._products[key] = Primitive(desc, operands)
        return self._products[key]

    def inner_product(
        self, x: Array, w: Array, b: Array | None, y: Array, *,
        transpose: bool = False, relu: float | None = None,
    ) -> None:  # fmt: skip
        """y (M, N) = relu?(x (M, K) w^T + b); w is (N, K), or (K, N) if ``transpose``.

        ``relu`` is the slope of negative values; None for no ReLU.
        """
        if not _plain(x, w, y) or (b is not None and not _plain(b)):
            super().inner_product(x, w, b, y, transpose=transpose, relu=relu)
            return
        (m, k), n = x.shape, y.shape[1]
        run = self._product(m, n, k, transpose=transpose, bias=b is not None)
        if b is None:
            run(x, w, y)
        else:
            run(x, w, y, b)
        if relu is not None:
            self._eltwise(y.size, Alg.RELU, relu)(y, y)

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
        if not _plain(x, dy, dw):
            super().inner_product_backward_weights(
                x, dy, dw, db, transpose=transpose, accumulate=accumulate
            )
            return
        a, b = (x, dy) if transpose else (dy, x)
        self.gemm(a, b, dw, trans_a=True, beta=1.0 if accumulate else 0.0)
        if db is not None:
            total = dy.sum(axis=0)
            if accumulate:
                db += total
            else:
                db[...] = total
