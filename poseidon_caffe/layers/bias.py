"""Bias: sums with a smaller blob, given or learned; and how it is spread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.errors import LayerError
from poseidon_caffe.layers.base import Example, Layer, LayerContext, Storage
from poseidon_caffe.layers.registry import register
from poseidon_caffe.types import Shape

__all__ = ["Bias", "broadcast_shape", "check_broadcast"]


def broadcast_shape(
    layer: Layer, bottom: Sequence[Blob], axis: int, num_axes: int
) -> Shape:
    """Shape of a parameter over ``num_axes`` axes (-1: the rest) from ``axis``.

    Raises:
        ShapeError: the bottom has not so many axes.
    """
    shape = bottom[0].shape
    if num_axes < -1:
        raise LayerError(layer.describe(f"num_axes must be -1 or more, not {num_axes}"))
    if num_axes == 0:
        return ()
    start = bottom[0].canonical_axis(axis)
    stop = len(shape) if num_axes == -1 else start + num_axes
    if stop > len(shape):
        problem = f"num_axes {num_axes} from axis {start} exceeds the bottom"
        raise layer.shape_error(problem, bottom)
    return shape[start:stop]


def check_broadcast(
    layer: Layer, bottom: Sequence[Blob], small: Shape, axis: int
) -> int:
    """The axis of the first bottom from which it has the shape ``small``.

    Raises:
        ShapeError: it does not.
    """
    start = 0 if not small else bottom[0].canonical_axis(axis)
    if bottom[0].shape[start : start + len(small)] != small:
        problem = f"a blob of shape {small} does not fit the first bottom from axis"
        raise layer.shape_error(f"{problem} {start}", bottom)
    return start


@register("Bias")
class Bias(Layer):
    """y = x + bias, the bias spread over the other axes of x.

    Bottoms: x (any shape); optionally the bias, whose shape is x's from ``axis``.
    Tops: as x; in place allowed.
    Params: with one bottom the bias, of x's ``num_axes`` axes from ``axis`` (-1: all
    of them), 0 unless ``filler`` says otherwise.

    Caffe parity: exact.
    """

    storage = Storage.BOTTOM
    backward_reads_bottom = False
    backward_reads_top = False

    min_bottom = 1
    max_bottom = 2
    num_top = 1
    allows_in_place = True

    def __init__(self, param: Any, context: LayerContext) -> None:
        super().__init__(param, context)
        self._axis = 1

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Make the parameter."""
        p = self.param.bias_param
        if len(bottom) == 1:
            shape = broadcast_shape(self, bottom, p.axis, p.num_axes)
            self.add_param(shape, p.filler)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """The bias must fit x."""
        axis = self.param.bias_param.axis
        self._axis = check_broadcast(self, bottom, self._bias(bottom).shape, axis)
        top[0].reshape(bottom[0].shape)

    def _bias(self, bottom: Sequence[Blob]) -> Blob:
        return bottom[1] if len(bottom) > 1 else self.blobs[0]

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Add."""
        x, y, bias = bottom[0].data, top[0].data, self._bias(bottom).data
        self.ops.scale_shift(x, self._axis, None, bias, y)

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """The gradient of x is dy, that of the bias its sum."""
        down = propagate_down[0] and bottom[0] is not top[0]
        dx = bottom[0].diff if down else None
        db, accumulate = None, False
        if len(bottom) > 1 and propagate_down[1]:
            db = bottom[1].diff
        elif len(bottom) == 1 and self.param_propagate_down[0]:
            db, accumulate = self.blobs[0].gradient_target()
        self.ops.scale_shift_backward(
            None, top[0].diff, self._axis, None, dx, None, db, accumulate=accumulate
        )

    @classmethod
    def examples(cls) -> list[Example]:
        """Learned and given biases over various axes."""
        fill = 'filler { type: "uniform" }'
        x = (2, 3, 4, 5)
        return [
            Example(f"bias_param {{ {fill} }}", in_place=True),
            Example(f"bias_param {{ {fill} }}", bottoms=((4, 3),)),
            Example(f"bias_param {{ axis: 0 num_axes: -1 {fill} }}"),
            Example(f"bias_param {{ axis: 1 num_axes: 2 {fill} }}"),
            Example(f"bias_param {{ num_axes: 0 {fill} }}"),
            Example("bias_param { axis: 0 }", bottoms=(x, (2, 3)), in_place=True),
        ]
