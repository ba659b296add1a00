"""Scale: products with a smaller blob, given or learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.layers.base import Example, Layer, LayerContext, Storage
from poseidon_caffe.layers.bias import broadcast_shape, check_broadcast
from poseidon_caffe.layers.gradients import param_gradients
from poseidon_caffe.layers.neuron import SavedInput
from poseidon_caffe.layers.registry import register
from poseidon_caffe.schema.messages import FillerParameter
from poseidon_caffe.types import Array

__all__ = ["Scale"]


@register("Scale")
class Scale(Layer):
    """y = x * scale [+ bias], the scale spread over the other axes of x.

    Bottoms: x (any shape); optionally the scale, whose shape is x's from ``axis``.
    Tops: as x; in place allowed.
    Params: with one bottom the scale, of x's ``num_axes`` axes from ``axis``
    (-1: all of them), 1 unless ``filler`` says otherwise; with ``bias_term`` a bias
    of the scale's shape, last.

    Caffe parity: exact.
    """

    storage = Storage.BOTTOM
    backward_reads_top = False

    min_bottom = 1
    max_bottom = 2
    num_top = 1
    allows_in_place = True

    def __init__(self, param: Any, context: LayerContext) -> None:
        super().__init__(param, context)
        self._saved = SavedInput(self)
        self._axis = 1

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Make the parameters."""
        p = self.param.scale_param
        if len(bottom) == 1:
            shape = broadcast_shape(self, bottom, p.axis, p.num_axes)
            one = FillerParameter(type="constant", value=1)
            self.add_param(shape, p.filler if p.HasField("filler") else one)
        else:
            shape = bottom[1].shape
        if p.bias_term:
            self.add_param(shape, p.bias_filler)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """The scale must fit x."""
        scale = self._scale(bottom)
        axis = self.param.scale_param.axis
        self._axis = check_broadcast(self, bottom, scale.shape, axis)
        bias = self._bias
        if bias is not None and bias.shape != scale.shape:
            raise self.shape_error(f"has a bias of shape {bias.shape}", bottom)
        top[0].reshape(bottom[0].shape)

    def _scale(self, bottom: Sequence[Blob]) -> Blob:
        return bottom[1] if len(bottom) > 1 else self.blobs[0]

    @property
    def _bias(self) -> Blob | None:
        return self.blobs[-1] if self.param.scale_param.bias_term else None

    @property
    def per_channel(self) -> bool:
        """Whether the scale is a parameter with one number a channel (axis 1)."""
        return (
            len(self.param.bottom) == 1
            and self._axis == 1
            and len(self.blobs[0].shape) == 1
        )

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Scale and shift, unless the layer before has done it."""
        if self.skip_forward:
            return
        self._saved.save(bottom[0], top[0])
        scale, bias = self._scale(bottom).data, self._bias
        shift = None if bias is None else bias.data
        x, y = bottom[0].data, top[0].data
        self.ops.scale_shift(x, self._axis, scale, shift, y)

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """Gradients of bias, scale and, last as it may overwrite dy, of x."""
        if self.skip_forward:
            # The BatchNorm that does this layer's forward does its backward too.
            return
        dscale, dshift, accumulate = self._targets(bottom, top, propagate_down)
        self.ops.scale_shift_backward(
            None if dscale is None else self._saved.data(bottom[0]),
            top[0].diff,
            self._axis,
            self._scale(bottom).data,
            bottom[0].diff if propagate_down[0] else None,
            dscale,
            dshift,
            accumulate=accumulate,
        )

    def _targets(
        self,
        bottom: Sequence[Blob],
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
    ) -> tuple[Array | None, Array | None, bool]:
        """Where the gradients of scale and bias go, and whether they are added."""
        wanted = self.param_propagate_down
        if len(bottom) == 1:
            targets, accumulate = param_gradients(self.blobs, wanted)
            shift = targets[1] if len(targets) > 1 else None
            return targets[0], shift, accumulate
        bias = self._bias
        if bias is not None and wanted[-1]:
            # A parameter's gradient is added up, that of a bottom is not.
            dy = top[0].diff
            db, accumulate = bias.gradient_target()
            self.ops.sum_outer(dy, self._axis, bias.shape, db, accumulate=accumulate)
        return (bottom[1].diff if propagate_down[1] else None), None, False

    @classmethod
    def examples(cls) -> list[Example]:
        """Learned and given scales over various axes, with bias."""
        fill = 'filler { type: "uniform" min: 0.5 }'
        bias = 'bias_term: true bias_filler { type: "uniform" }'
        x = (2, 3, 4, 5)
        return [
            Example(f"scale_param {{ {fill} }}", in_place=True),
            Example(f"scale_param {{ {fill} {bias} }}", in_place=True),
            Example(f"scale_param {{ {bias} }}", bottoms=((4, 3),)),
            Example(f"scale_param {{ axis: 0 num_axes: -1 {fill} {bias} }}"),
            Example(f"scale_param {{ axis: 1 num_axes: 2 {fill} }}"),
            Example(f"scale_param {{ axis: -1 {fill} }}"),
            Example(f"scale_param {{ num_axes: 0 {fill} {bias} }}"),
            Example("scale_param { axis: 1 }", bottoms=(x, (3, 4)), in_place=True),
            Example("scale_param { axis: 0 }", bottoms=(x, (2, 3))),
            Example(f"scale_param {{ {bias} }}", bottoms=(x, (3,))),
        ]
