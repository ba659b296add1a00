"""Deconvolution: a convolution run backward, which makes planes larger."""

from __future__ import annotations

from poseidon_caffe.backend.geometry import ConvGeometry
from poseidon_caffe.backend.protocols import ConvKernel
from poseidon_caffe.layers.base import Example
from poseidon_caffe.layers.convolution_base import ConvolutionBase
from poseidon_caffe.layers.gradients import param_gradients
from poseidon_caffe.layers.registry import register
from poseidon_caffe.types import Array, Shape

__all__ = ["Deconvolution"]


@register("Deconvolution")
class Deconvolution(ConvolutionBase):
    """The transpose of Convolution: x[n, c, i] w[c, o, k] adds to y[n, o, .].

    An input at position i adds to the outputs at stride * i + dilation * k - pad.

    Bottoms: any number of (N, C, *spatial), all of one shape.
    Tops: as many (N, num_output, *spatial'), where an axis of size s becomes
    stride (s - 1) + dilation (kernel - 1) + 1 - 2 pad.
    Params: weights (C, num_output / group, *kernel); bias (num_output,) unless
    ``bias_term: false``.

    Settings are Convolution's (``convolution_param``: num_output, kernel_size,
    stride, pad, dilation, group, axis, bias_term, the fillers).  Upsampling by a
    factor f with fixed weights: ``weight_filler { type: "bilinear" }``, kernel
    2 f - f % 2, stride f, pad ceil((f - 1) / 2), group = num_output = C.

    Caffe parity: exact; N-D kernels, groups and dilation included.  ``engine`` and
    ``force_nd_im2col`` change nothing here.
    """

    def weights_shape(self, channels: int) -> Shape:
        """(C, num_output / group, *kernel)."""
        p = self.param.convolution_param
        return (channels, p.num_output // p.group, *self._windows.kernel)

    @property
    def input_channels(self) -> int:
        """Channels of the bottoms that the weights were made for."""
        return self.blobs[0].shape[0]

    def geometry_of(self, x_shape: Shape) -> ConvGeometry:
        """The convolution from a top to its bottom, which backward runs forward."""
        p, w = self.param.convolution_param, self._windows
        axes = zip(x_shape[2:], w.kernel, w.stride, w.pad, w.dilation, strict=True)
        larger = (s * (n - 1) + d * (k - 1) + 1 - 2 * q for n, k, s, q, d in axes)
        return ConvGeometry(
            x_shape=(x_shape[0], p.num_output, *larger),
            num_output=x_shape[1],
            kernel=w.kernel,
            stride=w.stride,
            pad=w.pad,
            dilation=w.dilation,
            group=p.group,
            bias=False,
        )

    def top_shape(self, geometry: ConvGeometry) -> Shape:
        """What the mirrored convolution reads."""
        return geometry.x_shape

    def forward_one(self, kernel: ConvKernel, x: Array, y: Array) -> None:
        """The convolution's backward, then the bias."""
        kernel.backward_data(x, self.blobs[0].data, y, self.blobs[0].key)
        if len(self.blobs) > 1:
            self.ops.scale_shift(y, 1, None, self.blobs[1].data, y)

    def backward_data_one(self, kernel: ConvKernel, dy: Array, dx: Array) -> None:
        """The convolution itself."""
        kernel.forward(dy, self.blobs[0].data, None, dx, self.blobs[0].key)

    def backward_params_one(self, kernel: ConvKernel, x: Array, dy: Array) -> None:
        """Add one bottom's part to the gradients of weights and bias."""
        grads, accumulate = param_gradients(self.blobs, self.param_propagate_down)
        dw, db = grads[0], grads[1] if len(grads) > 1 else None
        if dw is not None:
            kernel.backward_weights(dy, x, dw, None, accumulate=accumulate)
        if db is not None:
            self.ops.sum_outer(dy, 1, db.shape, db, accumulate=accumulate)

    @classmethod
    def examples(cls) -> list[Example]:
        """Plain, upsampling, grouped, dilated, rectangular, 1-D, 3-D, moved axis."""
        fill = 'weight_filler { type: "xavier" } bias_filler { type: "uniform" }'

        def deconv(text: str, *bottoms: Shape) -> Example:
            shapes = bottoms or ((2, 4, 3, 4),)
            param = f"convolution_param {{ {text} {fill} }}"
            return Example(param, bottoms=shapes, num_top=len(shapes))

        return [
            deconv("num_output: 3 kernel_size: 3"),
            deconv("num_output: 3 kernel_size: 1"),
            deconv("num_output: 3 kernel_size: 4 pad: 1 stride: 2 bias_term: false"),
            deconv("num_output: 6 kernel_size: 3 group: 2 pad: 1"),
            deconv("num_output: 4 kernel_size: 4 group: 4 stride: 2 pad: 1"),
            deconv("num_output: 3 kernel_size: 3 dilation: 2 pad: 2 stride: 3"),
            deconv(
                "num_output: 3 kernel_h: 1 kernel_w: 5 pad_h: 0 pad_w: 2 "
                "stride_h: 2 stride_w: 1"
            ),
            deconv("num_output: 3 kernel_size: 3", (2, 2, 3, 3), (2, 2, 3, 3)),
            deconv("num_output: 3 kernel_size: 3 pad: 1 stride: 2", (2, 4, 4)),
            deconv("num_output: 2 kernel_size: 2 stride: 2", (1, 2, 2, 3, 2)),
            deconv("num_output: 3 kernel_size: 2 axis: 2", (2, 2, 3, 4)),
            deconv("num_output: 3 kernel_size: 2 axis: 2", (2, 1, 3, 3, 2)),
        ]
