"""The frozen settings that kernels are built for: one record a kernel family."""

from __future__ import annotations

from dataclasses import dataclass

from poseidon_caffe.types import Shape

__all__ = [
    "BatchNormGeometry",
    "ColumnGeometry",
    "ConvGeometry",
    "LrnGeometry",
    "PoolGeometry",
    "conv_output",
    "window_spans",
]


def conv_output(size: int, kernel: int, stride: int, pad: int, dilation: int) -> int:
    """Output length of one convolved axis, rounded towards 0 as Caffe's C++ does.

    So one window may stick out of the padded input, by less than a stride.
    """
    room = size + 2 * pad - (dilation * (kernel - 1) + 1)
    steps = room // stride if room >= 0 else -(-room // stride)
    return steps + 1


def window_spans(counts: Shape, kernel: Shape, stride: Shape, dilation: Shape) -> Shape:
    """From the first place of the first window to the last of the last, per axis."""
    return tuple(
        (count - 1) * s + d * (k - 1) + 1
        for count, k, s, d in zip(counts, kernel, stride, dilation, strict=True)
    )


@dataclass(frozen=True)
class ConvGeometry:
    """An N-D convolution; spatial tuples have one entry per spatial axis.

    Attributes:
        x_shape: (N, C, *spatial) of the bottom.
        num_output: channels of the top.
        relu: None, or the negative slope of a ReLU applied to the top (fused).
    """

    x_shape: Shape
    num_output: int
    kernel: Shape
    stride: Shape
    pad: Shape
    dilation: Shape
    group: int = 1
    bias: bool = True
    relu: float | None = None

    @property
    def y_shape(self) -> Shape:
        """(N, num_output, *spatial) of the top."""
        spatial = (
            conv_output(*axis)
            for axis in zip(
                self.x_shape[2:],
                self.kernel,
                self.stride,
                self.pad,
                self.dilation,
                strict=True,
            )
        )
        return (self.x_shape[0], self.num_output, *spatial)

    @property
    def w_shape(self) -> Shape:
        """(num_output, C / group, *kernel) of the weights."""
        return (self.num_output, self.x_shape[1] // self.group, *self.kernel)


@dataclass(frozen=True)
class ColumnGeometry:
    """The windows of a convolution alone: one entry per spatial axis in each."""

    kernel: Shape
    stride: Shape
    pad: Shape
    dilation: Shape

    def spatial(self, sizes: Shape) -> Shape:
        """How many windows fit each of the spatial axes."""
        axes = zip(
            sizes, self.kernel, self.stride, self.pad, self.dilation, strict=True
        )
        return tuple(conv_output(*axis) for axis in axes)

    def overhangs(self, sizes: Shape) -> bool:
        """Whether a window has places that are not on the image."""
        spans = window_spans(
            self.spatial(sizes), self.kernel, self.stride, self.dilation
        )
        return any(self.pad) or any(
            span > size for span, size in zip(spans, sizes, strict=True)
        )


@dataclass(frozen=True)
class PoolGeometry:
    """A 2-D pooling with Caffe's window rules.

    Windows start at ``i * stride - pad``.  MAX looks at the part inside the
    image.  AVE divides by the part inside the *padded* image (which ceil
    rounding may overstep) but sums only the part inside the image.

    Attributes:
        x_shape, y_shape: (N, C, H, W) of bottom and top (rounding is done).
        method: "max", "ave" or "stochastic".
    """

    x_shape: Shape
    y_shape: Shape
    kernel: Shape
    stride: Shape
    pad: Shape
    method: str


@dataclass(frozen=True)
class LrnGeometry:
    """Local response normalisation: y = x * (k + alpha/n * sum x^2) ** -beta.

    Attributes:
        across_channels: n = size channels; otherwise a size x size window.
    """

    x_shape: Shape
    size: int
    alpha: float
    beta: float
    k: float
    across_channels: bool


@dataclass(frozen=True)
class BatchNormGeometry:
    """Normalisation per channel (axis 1), optionally with scale, shift and ReLU.

    Attributes:
        use_stored: take the given mean and variance (TEST) instead of the batch's.
        affine: multiply by scale and add shift per channel.
        relu: apply max(0, .) last, and let the gradient through where it did
            nothing; where the backend does not say that it `fuses_relu_backward`, only
            with ``use_stored``, and with no backward.
        inference: no backward will follow, so nothing need be kept for it.
    """

    x_shape: Shape
    eps: float
    use_stored: bool
    affine: bool = False
    relu: bool = False
    inference: bool = False
