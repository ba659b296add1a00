"""What losses over labels share: normalisation and the check of labels."""

from __future__ import annotations

from typing import Any

import numpy as np

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.errors import LayerError
from poseidon_caffe.layers.base import Layer
from poseidon_caffe.types import Array

__all__ = [
    "BATCH_SIZE",
    "FULL",
    "NONE",
    "VALID",
    "check_labels",
    "ignored_label",
    "normalization_mode",
    "normalizer",
    "set_scalar",
]

#: LossParameter.NormalizationMode.
FULL, VALID, BATCH_SIZE, NONE = range(4)


def normalization_mode(loss_param: Any, default: int) -> int:
    """The mode of a LossParameter, honouring the old ``normalize`` flag.

    ``normalization`` wins; ``normalize`` alone means VALID or BATCH_SIZE.
    """
    if loss_param.HasField("normalization"):
        return int(loss_param.normalization)
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

    Caffe reads past its arrays instead (it checks in debug builds only).
    """
    if labels.size == 0:
        return
    # Nearly always all are in range, which two reductions show.
    if labels.min() >= 0 and labels.max() < classes:
        return
    bad = (labels < 0) | (labels >= classes) | np.isnan(labels)
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
