"""What kernels look like from a layer: the Ops interface, split by family.

Shapes are Caffe's (N, C, H, W); arrays may be strided (channels-last) and all
arrays of one call have one floating dtype.  Outputs are preallocated by the
caller, fully overwritten unless ``accumulate`` says otherwise, and may be the
same array as an input only where a method says "in place allowed".

Kernels that depend on a shape are objects made once per shape (``ops.convolution
(geometry)``), so that a backend can keep primitives and packed weights with them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from poseidon_caffe.backend.geometry import (
    BatchNormGeometry,
    ConvGeometry,
    LrnGeometry,
    PoolGeometry,
)
from poseidon_caffe.types import Array, UpdateRule, UpdateStep

__all__ = [
    "ActivationOps",
    "BatchNormKernel",
    "BlasOps",
    "ConvKernel",
    "ElementwiseOps",
    "LossOps",
    "LrnKernel",
    "Ops",
    "PoolKernel",
    "RandomOps",
    "UpdateOps",
    "UpdateSegment",
]


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
        Stochastic pooling samples with ``rng`` (a numpy Generator: TRAIN), or
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
        self, x: Array, w: Array, b: Array | None, y: Array, *, transpose: bool = False
    ) -> None:
        """y (M, N) = x (M, K) w^T + b; w is (N, K), or (K, N) if ``transpose``."""

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


class ActivationOps(Protocol):
    """Elementwise non-linearities.  In place allowed for all (y is x, dx is dy)."""

    def relu(self, x: Array, y: Array, slope: float = 0.0) -> None:
        """y = max(x, 0) + slope * min(x, 0)."""

    def relu_backward(self, y: Array, dy: Array, dx: Array, slope: float = 0.0) -> None:
        """dx = dy where y > 0, slope * dy elsewhere (y or x alike for slope >= 0)."""

    def sigmoid(self, x: Array, y: Array) -> None:
        """y = 1 / (1 + exp(-x)), without overflow."""

    def sigmoid_backward(self, y: Array, dy: Array, dx: Array) -> None:
        """dx = dy * y * (1 - y)."""

    def tanh(self, x: Array, y: Array) -> None:
        """y = tanh(x)."""

    def tanh_backward(self, y: Array, dy: Array, dx: Array) -> None:
        """dx = dy * (1 - y^2)."""

    def prelu(self, x: Array, slope: Array, y: Array) -> None:
        """y = x where x > 0, else slope[c] * x; slope has shape (C,) or (1,)."""

    def prelu_backward(
        self, x: Array, slope: Array, dy: Array, dx: Array | None, dslope: Array | None
    ) -> None:
        """dx, and dslope (accumulated: += ), each when given."""

    def dropout(self, x: Array, mask: Array, scale: float, y: Array) -> None:
        """y = x * mask * scale; mask is uint8 0/1 of x's shape."""

    def power(
        self, x: Array, y: Array, power: float, scale: float, shift: float
    ) -> None:
        """y = (shift + scale * x) ** power."""

    def power_backward(
        self, x: Array, y: Array, dy: Array, dx: Array,
        power: float, scale: float, shift: float,
    ) -> None:  # fmt: skip
        """dx = dy * power * scale * (shift + scale * x) ** (power - 1)."""


class ElementwiseOps(Protocol):
    """Copies, sums and products of whole arrays or along the channel axis."""

    def copy(self, src: Array, dst: Array) -> None:
        """dst[...] = src (layouts may differ; same shape, or same count in C order)."""

    def add(
        self,
        srcs: Sequence[Array],
        dst: Array,
        coeffs: Sequence[float],
        relu: float | None = None,
    ) -> None:
        """dst = sum coeffs[i] * srcs[i]; dst may be any of srcs.

        With ``relu`` a ReLU of that negative slope follows in the same pass.
        """

    def multiply(self, srcs: Sequence[Array], dst: Array) -> None:
        """dst = product of srcs; dst may be srcs[0]."""

    def maximum(self, srcs: Sequence[Array], dst: Array, winner: Array | None) -> None:
        """dst = elementwise max; winner (int32) gets the index of who gave it.

        Ties go as in Caffe: to the second of the first two, else to the earlier.
        """

    def concat(self, srcs: Sequence[Array], axis: int, dst: Array) -> None:
        """Join along ``axis``; sources that already are the slices are skipped."""

    def split(
        self,
        src: Array,
        axis: int,
        dsts: Sequence[Array | None],
        sizes: Sequence[int] | None = None,
    ) -> None:
        """Cut along ``axis`` into dsts; None skips that part.

        ``sizes`` are the lengths of all parts.  Without it skipped parts share
        equally what the others leave.
        """

    def scale_shift(
        self, x: Array, axis: int, scale: Array | None, shift: Array | None, y: Array
    ) -> None:
        """y = x * scale + shift, broadcast from ``axis`` on; in place allowed."""

    def sum_outer(
        self, x: Array, axis: int, shape: tuple[int, ...], out: Array,
        times: Array | None = None, *, accumulate: bool = False,
    ) -> None:  # fmt: skip
        """out (+)= x [* times] summed over all axes but axis..axis+len(shape)."""

    def first_bad(self, x: Array) -> int:
        """C-order index of the first NaN or infinity, -1 when all are finite."""

    def asum(self, x: Array) -> float:
        """Sum of absolute values."""

    def sumsq(self, x: Array) -> float:
        """Sum of squares, accumulated in double precision."""


class LossOps(Protocol):
    """Softmax and its loss."""

    def softmax(self, x: Array, axis: int, y: Array) -> None:
        """y = softmax of x along ``axis``; in place allowed."""

    def softmax_backward(self, y: Array, dy: Array, axis: int, dx: Array) -> None:
        """dx = (dy - sum(dy * y)) * y; dx may be dy."""

    def softmax_loss(
        self, prob: Array, label: Array, axis: int, ignore_label: int | None
    ) -> tuple[float, int]:
        """(sum of -log prob[label] (at least FLT_MIN), number of labels counted)."""

    def softmax_loss_backward(
        self, prob: Array, label: Array, axis: int, ignore_label: int | None,
        weight: float, dx: Array,
    ) -> None:  # fmt: skip
        """dx = weight * (prob - onehot(label)), zero where ignored."""


class RandomOps(Protocol):
    """Random fills by explicit generators."""

    def bernoulli(self, rng: Any, probability: float, out: Array) -> None:
        """Fill uint8 ``out`` with ones of the given probability."""


class UpdateSegment(Protocol):
    """One parameter for the one-pass update.

    Attributes:
        data, diff: C-order arrays, flat.
        history: the rule's arrays of the same size.
        local_rate: rate * lr_mult.
        decay: weight_decay * decay_mult; l1: whether it is an L1 penalty.
        scale: factor on the raw diff (clip and 1/iter_size).
    """

    data: Array
    diff: Array
    history: Sequence[Array]
    local_rate: float
    decay: float
    l1: bool
    scale: float


class UpdateOps(Protocol):
    """Solver updates: one pass over all parameters."""

    def update(
        self, rule: UpdateRule, step: UpdateStep, segments: Sequence[UpdateSegment]
    ) -> None:
        """Scale, regularise and apply ``rule`` to every segment, cache-sized pieces."""


class Ops(
    BlasOps, ActivationOps, ElementwiseOps, LossOps, RandomOps, UpdateOps, Protocol
):
    """Everything a layer may ask of a backend.

    Attributes:
        name: "reference", "cpu" or "gpu".
        channels_last: whether activations of 4 or 5 axes should be stored so.
        supports_float64: whether float64 arrays run at full function.
        note: what the user should be told once about this backend, or None.
    """

    name: str
    channels_last: bool
    supports_float64: bool
    note: str | None

    def convolution(self, geometry: ConvGeometry) -> ConvKernel:
        """A convolution kernel."""

    def pooling(self, geometry: PoolGeometry) -> PoolKernel:
        """A pooling kernel."""

    def lrn(self, geometry: LrnGeometry) -> LrnKernel:
        """A local response normalisation kernel."""

    def batch_norm(self, geometry: BatchNormGeometry) -> BatchNormKernel:
        """A batch normalisation kernel."""

    def parallel(self, work: Sequence[Callable[[], None]]) -> None:
        """Run independent pieces of work on the backend's threads."""
