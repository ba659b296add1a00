"""What losses over labels share: places, normalisation and the check of labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.backend.protocols import Sums, Weight
from poseidon_caffe.errors import LayerError
from poseidon_caffe.layers.base import Layer
from poseidon_caffe.types import Array, Shape

__all__ = [
    "BATCH_SIZE",
    "FULL",
    "LOG_FLOOR",
    "NONE",
    "VALID",
    "LabelCheck",
    "LossResult",
    "Predictions",
    "ignored_label",
    "normalization_mode",
    "normalizer",
    "one_label_each",
]

#: LossParameter.NormalizationMode.
FULL, VALID, BATCH_SIZE, NONE = range(4)

#: Probabilities below it count as this much where a loss takes their logarithm.
LOG_FLOOR = 1e-20


@dataclass(frozen=True)
class Predictions:
    """How a blob of scores is cut into predictions, each over all classes.

    Attributes:
        axis: of the classes.
        classes: how many.
        outer: product of the axes before it.
        inner: product of the axes after it.
        label_shape: the shape without that axis.
    """

    axis: int
    classes: int
    outer: int
    inner: int
    label_shape: Shape

    @classmethod
    def of(cls, layer: Layer, bottom: Sequence[Blob], axis: int) -> Predictions:
        """Those of the first bottom, for each of which the second has a label.

        Raises:
            ShapeError: no such axis, or the number of labels does not fit.
        """
        shape, axis = bottom[0].shape, bottom[0].canonical_axis(axis)
        before, after = shape[:axis], shape[axis + 1 :]
        outer, inner = math.prod(before), math.prod(after)
        if bottom[1].count != outer * inner:
            problem = (
                f"needs {outer * inner} labels, one per prediction of classes along "
                f"axis {axis}"
            )
            raise layer.shape_error(problem, bottom)
        return cls(axis, shape[axis], outer, inner, before + after)


def one_label_each(layer: Layer, bottom: Sequence[Blob]) -> None:
    """Raise ShapeError unless the second bottom has one label for each sample.

    And the first has samples at all, which a scalar has not.
    """
    shape = bottom[0].shape
    if not shape or bottom[1].count != shape[0]:
        raise layer.shape_error("needs one label for each sample", bottom)


def normalization_mode(loss_param: Any, default: int) -> int:
    """The mode of a LossParameter, honouring the old ``normalize`` flag.

    ``normalization`` wins; ``normalize`` alone means VALID or BATCH_SIZE.

    Raises:
        LayerError: it is a mode that only a fork of Caffe had.
    """
    if loss_param.HasField("normalization"):
        mode = int(loss_param.normalization)
        if mode not in (FULL, VALID, BATCH_SIZE, NONE):
            raise LayerError(
                "normalization must be FULL, VALID, BATCH_SIZE or NONE, not "
                "PRE_FIXED, which only a fork of Caffe had"
            )
        return mode
    if loss_param.HasField("normalize"):
        return VALID if loss_param.normalize else BATCH_SIZE
    return default


def ignored_label(param: Any) -> int | None:
    """``ignore_label`` of a LossParameter or AccuracyParameter, or None."""
    return int(param.ignore_label) if param.HasField("ignore_label") else None


def normalizer(mode: int, outer: int, inner: int) -> float | None:
    """What a summed loss is divided by, or None: by the labels not ignored (VALID).

    Args:
        mode: FULL, VALID, BATCH_SIZE or NONE.
        outer: batch size.
        inner: predictions per sample.
    """
    if mode == VALID:
        return None
    return max(1.0, float({FULL: outer * inner, BATCH_SIZE: outer, NONE: 1}[mode]))


class LossResult:
    """Where a loss layer keeps what it adds up, and the weight of its gradient.

    The numbers stay on the device, if there is one: the layer never waits for them.

    Args:
        layer: whose.
    """

    def __init__(self, layer: Layer) -> None:
        memory = layer.ops.memory
        self._ops = layer.ops
        self._sums = Blob((2,), dtype=np.float64, memory=memory)
        self._weight = Blob((1,), dtype=np.float64, memory=memory)

    @property
    def sums(self) -> Sums:
        """For the ops that add up."""
        return self._sums.data

    def write(self, top: Blob, divisor: float | None, factor: float = 1.0) -> None:
        """The scalar top = factor * total / divisor (None: places counted)."""
        self._ops.write_mean(self._sums.data, divisor, top.data, factor)

    def weight(self, top: Blob, divisor: float | None) -> Weight:
        """What backward multiplies by: the top's gradient / divisor."""
        weight = self._weight.data
        self._ops.loss_weight(top.diff, self._sums.data, divisor, weight)
        return weight


class LabelCheck:
    """Looks for labels that count and are no class.

    A fraction is cut off, so -0.5 is class 0, as it is for Caffe, which reads past its
    arrays for labels out of range (it checks in debug builds only).

    Args:
        layer: named in the error; it makes one of these and keeps it.
        ignore_label: labels that do not count, or None.
    """

    def __init__(self, layer: Layer, ignore_label: int | None = None) -> None:
        def error(value: float, position: int, classes: int) -> LayerError:
            problem = (
                f"label {value:g} at position {position} is outside 0..{classes - 1} "
                f"(the bottom has {classes} classes; is num_output too small, or does "
                "the label need ignore_label?)"
            )
            return LayerError(layer.describe(problem))

        self._check = layer.ops.number_check(error, ignored=ignore_label)

    def run(self, labels: Array, classes: int) -> None:
        """Check the labels of a batch.

        Raises:
            LayerError: one is out of range; a GPU says so when the loss is read.
        """
        self._check.run(labels, classes)
