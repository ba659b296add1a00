"""What is asked of cuDNN for a convolution, and what comes of it."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from poseidon_caffe.backend.geometry import ConvGeometry
from poseidon_caffe.backend.gpu.cudnn.layout import Layout, dense_strides
from poseidon_caffe.backend.gpu.cudnn.settings import CudnnSettings

__all__ = ["Addresses", "Direction", "Plan", "Planner", "Request", "supports"]

_ALIGNED = 16
_MOST_ELEMENTS = 2**31 - 1


class Direction(enum.Enum):
    """Which of a convolution's three products."""

    FORWARD = "forward"
    DATA = "data"
    FILTER = "filter"


@dataclass(frozen=True)
class Addresses:
    """Device memory of a convolution's operands; gradients stand for their values.

    Attributes:
        x, w, y: bottom, weights in the plan's dtype and order, top.
        bias: (C,) in the plan's dtype; None for none.
    """

    x: int
    w: int
    y: int
    bias: int | None = None


@dataclass(frozen=True)
class Request:
    """One product of one convolution on arrays that lie in one way.

    Attributes:
        direction: which product.
        geometry: shapes and settings.
        dtype: of activations, and of the weights that the product sees.
        x, y: how bottom and top lie; both plain or both channels-last.
        alignment: bytes that every operand's address is a multiple of, 16 at most.
    """

    direction: Direction
    geometry: ConvGeometry
    dtype: np.dtype
    x: Layout
    y: Layout
    alignment: int = 16

    @property
    def channels_last(self) -> bool:
        """Whether bottom, top and weights are channels-last."""
        return self.x.channels_last

    def key(self, settings: CudnnSettings, api: str, extra: str = "") -> str:
        """Text that tells choices of algorithms apart."""
        g = self.geometry
        lists = (g.x_shape, g.w_shape, g.stride, g.pad, g.dilation)
        words = [api, self.direction.value, settings.precision(self.dtype)]
        words += ["x".join(map(str, numbers)) for numbers in lists]
        words += [f"g{g.group}", "nhwc" if self.channels_last else "nchw"]
        words += [f"gaps{lay.strides[0]}" for lay in (self.x, self.y) if _gaps(lay)]
        if settings.deterministic:
            words.append("deterministic")
        if self.alignment != _ALIGNED:
            words.append(f"aligned{self.alignment}")
        if extra:
            words.append(extra)
        return " ".join(words)


def _gaps(layout: Layout) -> bool:
    dense = dense_strides(layout.dims, channels_last=layout.channels_last)
    return layout.strides != dense


class Plan(Protocol):
    """A product made ready.

    Attributes:
        accumulates: whether ``run`` can add to the result.
    """

    accumulates: bool

    @property
    def workspace(self) -> int:
        """Bytes of scratch memory that it uses."""

    @property
    def fuses(self) -> bool:
        """Whether ``run_fused`` may work (it did not fail yet)."""

    def run(self, at: Addresses, *, accumulate: bool = False) -> None:
        """Compute the product; ``at.bias`` is ignored."""

    def run_fused(self, at: Addresses) -> bool:
        """y = relu?(conv(x, w) + bias) in one go; False where that is not possible.

        Only for `Direction.FORWARD`, with a bias and no ReLU or one of slope 0.
        """


class Planner(Protocol):
    """Makes plans by one of cuDNN's two interfaces."""

    def plan(
        self,
        request: Request,
        at: Addresses,
        finish: Callable[[], None] | None = None,
    ) -> Plan | None:
        """A plan, None if cuDNN has no way that the settings allow.

        Args:
            request: the product.
            at: operands to measure with; the result is overwritten with anything.
            finish: adds bias and ReLU to the result, where fusing them may pay.
        """


def supports(geometry: ConvGeometry) -> bool:
    """Whether cuDNN computes Caffe's convolution of this geometry exactly.

    It does for 1 to 3 spatial axes, unless a bottom smaller than its kernel makes
    Caffe's C++ rounding place windows outside the padded image, something is
    empty, or 32-bit numbers cannot index an array.
    """
    g = geometry
    shapes = (g.x_shape, g.y_shape, g.w_shape)
    if len(g.x_shape) not in {3, 4, 5} or any(n < 1 for s in shapes for n in s):
        return False
    inside = all(
        n + 2 * p >= d * (k - 1) + 1
        for n, k, p, d in zip(g.x_shape[2:], g.kernel, g.pad, g.dilation, strict=True)
    )
    divides = not g.x_shape[1] % g.group and not g.num_output % g.group
    return inside and divides and all(math.prod(s) <= _MOST_ELEMENTS for s in shapes)
