"""Matrix products."""

from __future__ import annotations

from typing import Protocol

from poseidon_caffe.types import Array

__all__ = ["BlasOps"]


class BlasOps(Protocol):
    """Matrix products."""

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
        """C = alpha op(A) op(B) + beta C, 2-D C-contiguous arrays."""

    def inner_product(
        self, x: Array, w: Array, b: Array | None, y: Array, *,
        transpose: bool = False, relu: float | None = None,
    ) -> None:  # fmt: skip
        """y (M, N) = relu?(x (M, K) w^T + b); w is (N, K), or (K, N) if ``transpose``.

        ``relu`` is the slope of negative values; None for no ReLU.
        """

    def inner_product_backward_data(
        self, dy: Array, w: Array, dx: Array, *, transpose: bool = False
    ) -> None:
        """dx (M, K) = dy (M, N) w."""

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
