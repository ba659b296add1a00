"""Kernels made once per shape, with which a backend can keep primitives."""

from __future__ import annotations

from typing import Any, Protocol

from poseidon_caffe.types import Array

__all__ = ["BatchNormKernel", "ConvKernel", "LrnKernel", "PoolKernel"]


class ConvKernel(Protocol):
    """Convolution for one geometry.  ``key`` is the weights' version (or None)."""

    def forward(
        self, x: Array, w: Array, b: Array | None, y: Array, key: int | None = None
    ) -> None:
        """y = relu?(conv(x, w) + b)."""

    def backward_data(
        self, dy: Array, w: Array, dx: Array, key: int | None = None
    ) -> None:
        """dx = the gradient with respect to x."""

    def backward_weights(
        self, x: Array, dy: Array, dw: Array, db: Array | None, *, accumulate: bool
    ) -> None:
        """dw (+)= gradient of the weights; db likewise when given."""


class PoolKernel(Protocol):
    """Pooling for one geometry; remembers the winners of its last forward."""

    def forward(
        self, x: Array, y: Array, mask: Array | None = None, rng: Any = None
    ) -> None:
        """y = pooled x.  ``mask`` (max only) gets each winner's index in its H*W plane.

        Ties go to the first element in row-major order.  A window that lies
        outside the image (stride above kernel) gets -FLT_MAX and index -1.
        Stochastic pooling samples with ``rng`` (of the backend: TRAIN), or
        gives the mean weighted by the values without one (TEST).
        """

    def backward(self, dy: Array, dx: Array, mask: Array | None = None) -> None:
        """dx = gradient; ``mask`` must be passed if it was passed to forward."""


class LrnKernel(Protocol):
    """Local response normalisation for one geometry."""

    def forward(self, x: Array, y: Array) -> None:
        """y = normalised x."""

    def backward(self, x: Array, y: Array, dy: Array, dx: Array) -> None:
        """dx = gradient, after a forward of the same x.  dy may be dx."""


class BatchNormKernel(Protocol):
    """Batch normalisation for one geometry; keeps what backward needs."""

    def forward(
        self,
        x: Array,
        y: Array,
        mean: Array,
        var: Array,
        scale: Array | None = None,
        shift: Array | None = None,
    ) -> None:
        """y = (x - mean) / sqrt(var + eps) [* scale + shift]; x may be y (in place).

        Unless ``use_stored``, mean and var (biased, shape (C,)) are *written*
        with the batch's own moments.
        """

    def backward(
        self,
        x: Array,
        dy: Array,
        dx: Array,
        mean: Array,
        var: Array,
        scale: Array | None = None,
        dscale: Array | None = None,
        dshift: Array | None = None,
        *,
        in_place: bool = False,
    ) -> None:
        """dx from dy (dx may be dy).  ``x`` is the forward's input.

        When forward ran in place (x overwritten) pass ``in_place=True``; the kernel
        then uses what it kept.  dscale and dshift are overwritten.
        """
