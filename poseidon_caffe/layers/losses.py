"""What losses over labels share: places, normalisation and the check of labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.errors import LayerError
from poseidon_caffe.layers.base import Layer
from poseidon_caffe.types import Array, Shape

__all__ = [
    "BATCH_SIZE",
    "FULL",
    "LOG_FLOOR",
    "NONE",
    "VALID",
    "Predictions",
    "check_labels",
    "ignored_label",
    "normalization_mode",
    "normalizer",
    "one_label_each",
    "set_scalar",
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


def normalizer(mode: int, outer: int, inner: int, valid: int) -> float:
    """What a summed loss is divided by; at least 1.

    Args:
        mode: FULL, VALID, BATCH_SIZE or NONE.
        outer: batch size.
        inner: predictions per sample.
        valid: predictions whose label is not ignored.
    """
    divisor = {FULL: outer * inner, VALID: valid, BATCH_SIZE: outer, NONE: 1}[mode]
    return max(1.0, float(divisor))


def check_labels(
    layer: Layer, labels: Array, classes: int, ignore_label: int | None
) -> None:
    """Raise LayerError if a label that counts is no class number.

    A fraction is cut off, so -0.5 is class 0, as it is for Caffe, which reads past its
    arrays for labels out of range (it checks in debug builds only).
    """
    if labels.size == 0:
        return
    # Nearly always all are in range, which two reductions show.
    if labels.min() > -1 and labels.max() < classes:
        return
    bad = (labels <= -1) | (labels >= classes) | np.isnan(labels)
    if ignore_label is not None:
        bad &= np.trunc(labels) != ignore_label
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        value = labels.reshape(-1)[first]
        problem = (
            f"label {value:g} at position {first} is outside 0..{classes - 1} "
            f"(the bottom has {classes} classes; is num_output too small, or does "
            "the label need ignore_label?)"
        )
        raise LayerError(layer.describe(problem))


def set_scalar(top: Blob, value: float) -> None:
    """Store a loss or score in a scalar top."""
    top.data[...] = value
