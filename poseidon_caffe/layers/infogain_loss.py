"""InfogainLoss: cross entropy weighed by a matrix over pairs of classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.errors import LayerError, ParseError
from poseidon_caffe.layers.base import Example, LayerContext, LossLayer
from poseidon_caffe.layers.layout import Alias, PlainView, like
from poseidon_caffe.layers.losses import (
    LOG_FLOOR,
    VALID,
    LabelCheck,
    LossResult,
    Predictions,
    ignored_label,
    normalization_mode,
    normalizer,
)
from poseidon_caffe.layers.registry import register
from poseidon_caffe.schema import messages
from poseidon_caffe.schema.binary import read_binary
from poseidon_caffe.schema.wire import blob_to_array
from poseidon_caffe.types import Array

__all__ = ["InfogainLoss"]


@register("InfogainLoss")
class InfogainLoss(LossLayer):
    """loss = sum of -H[label, c] log p[c] / normalizer, p = softmax(x), p >= 1e-20.

    With the unit matrix as H this is SoftmaxWithLoss.

    Bottoms: scores x (outer..., C, inner...), classes along ``axis``; labels, one
    integer per (outer, inner) place; optionally H, C x C elements of any shape.
    Tops: scalar loss; optionally the probabilities, as the first bottom.

    ``infogain_loss_param``: ``axis`` (1); ``source``, a .binaryproto that holds H,
    needed with two bottoms.  ``loss_param``: ``ignore_label``; ``normalization`` FULL
    (all places), VALID (places not ignored, the default), BATCH_SIZE (outer) or NONE;
    the old ``normalize`` is refused, as it is by Caffe.

    The gradient is (p[c] * sum of H[label] - H[label, c]) / normalizer.

    Caffe parity: exact (the version that has the softmax inside), but labels out of
    range are an error.
    """

    num_bottom = None
    min_bottom = 2
    max_bottom = 3
    num_top = None
    min_top = 1
    max_top = 2

    def __init__(self, param: Any, context: LayerContext) -> None:
        super().__init__(param, context)
        self._ignore = ignored_label(param.loss_param)
        self._mode = normalization_mode(param.loss_param, VALID)
        self._places = Predictions(1, 0, 0, 0, ())
        self._stored: Blob | None = None
        self._prob: Blob | None = None
        # A second top shares the memory of what backward reads.
        self.backward_reads_top = len(param.top) > 1
        self._check = LabelCheck(self, self._ignore)
        self._result = LossResult(self)
        self._label_view = PlainView(self.ops, context.dtype)
        self._gain_view = PlainView(self.ops, context.dtype)
        self._second_top = Alias(self.ops)

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Read H, unless it is a bottom."""
        if self.param.loss_param.HasField("normalize"):
            problem = 'loss_param { normalize } is old: write "normalization" instead'
            raise LayerError(self.describe(problem))
        if len(bottom) > 2:
            return
        source = self.param.infogain_loss_param.source
        if not source:
            problem = (
                "needs the matrix H: infogain_loss_param { source } or a third bottom"
            )
            raise LayerError(self.describe(problem))
        try:
            stored = blob_to_array(read_binary(source, messages.BlobProto))
        except ParseError as error:
            problem = f"cannot read the matrix H from {source}: {error}"
            raise LayerError(self.describe(problem)) from error
        dtype, memory = self.context.dtype, self.ops.memory
        self._stored = Blob(stored.shape, dtype=dtype, memory=memory)
        self._stored.mutable_cpu_data[...] = stored

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """One label per place; H is square over the classes."""
        super().reshape(bottom, top)
        axis = self.param.infogain_loss_param.axis
        self._places = places = Predictions.of(self, bottom, axis)
        shape = self._matrix(bottom).shape
        if math.prod(shape) != places.classes**2:
            problem = (
                f"H has the shape {shape}, but {places.classes} classes need "
                f"{places.classes} x {places.classes} numbers"
            )
            raise self.shape_error(problem, bottom)
        x = bottom[0]
        if self._prob is None or self._prob.channels_last != x.channels_last:
            self._prob = like(x)
        self._prob.reshape(x.shape)
        if len(top) > 1:
            top[1].reshape(x.shape)
            self._second_top.bind(self._prob, top[1], diff=False)

    def allow_force_backward(self, bottom_index: int) -> bool:
        """Neither labels nor H get a gradient."""
        return bottom_index == 0

    def _gain(self, bottom: Sequence[Blob]) -> Array:
        """H as a matrix, a row for each label."""
        classes = self._places.classes
        return self._gain_view.read(self._matrix(bottom).data, (classes, classes))

    def _labels(self, bottom: Sequence[Blob]) -> Array:
        """Labels in the shape of the scores without their class axis."""
        return self._label_view.read(bottom[1].data, self._places.label_shape)

    def _matrix(self, bottom: Sequence[Blob]) -> Blob:
        """H as it came."""
        found = bottom[2] if len(bottom) > 2 else self._stored
        assert found is not None
        return found

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Softmax, then the weighted logarithms at each label."""
        assert self._prob is not None
        places, prob = self._places, self._prob.data
        labels, gain = self._labels(bottom), self._gain(bottom)
        self._check.run(labels, places.classes)
        self.ops.softmax(bottom[0].data, places.axis, prob)
        self.ops.infogain_loss(
            prob, labels, places.axis, self._ignore, gain, LOG_FLOOR,
            self._result.sums,
        )  # fmt: skip
        self._result.write(top[0], self._divisor())
        if len(top) > 1:
            self._second_top.forward(self._prob, top[1])

    def _divisor(self) -> float | None:
        return normalizer(self._mode, self._places.outer, self._places.inner)

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """See the class."""
        self.refuse_label_gradient(propagate_down)
        if len(propagate_down) > 2 and propagate_down[2]:
            raise LayerError(self.describe("cannot backpropagate to the matrix H"))
        if not propagate_down[0]:
            return
        assert self._prob is not None
        places = self._places
        self.ops.infogain_loss_backward(
            self._prob.data,
            self._labels(bottom),
            places.axis,
            self._ignore,
            self._gain(bottom),
            self._result.weight(top[0], self._divisor()),
            bottom[0].diff,
        )

    @classmethod
    def examples(cls) -> list[Example]:
        """H as a bottom; normalisations, another axis, the second top.

        H counts as labels here: it gets no gradient.
        """

        def loss(text: str = "", num_top: int = 1) -> Example:
            shapes = ((2, 5, 4, 3), (2, 4, 3), (1, 1, 5, 5))
            labels = {1: 5, 2: 4}
            return Example(text, bottoms=shapes, num_top=num_top, labels=labels)

        flat = ((6, 4), (6,), (4, 4))
        last = ((2, 3, 4), (2, 3), (16,))
        axis = "infogain_loss_param { axis: -1 }"
        return [
            Example(bottoms=flat, labels={1: 4, 2: 4}),
            loss(),
            loss("loss_param { ignore_label: 2 }"),
            loss("loss_param { normalization: FULL }"),
            loss("loss_param { ignore_label: 2 normalization: BATCH_SIZE }"),
            loss("loss_param { normalization: NONE }"),
            Example(axis, bottoms=last, labels={1: 4, 2: 4}),
            Example(
                "loss_weight: 1 loss_weight: 0",
                bottoms=flat,
                num_top=2,
                labels={1: 4, 2: 4},
                check_gradient=False,
            ),
        ]
