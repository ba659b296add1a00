"""Ops: everything a layer may ask of a backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from poseidon_caffe.backend.geometry import (
    BatchNormGeometry,
    ConvGeometry,
    LrnGeometry,
    PoolGeometry,
)
from poseidon_caffe.backend.protocols.activation import ActivationOps
from poseidon_caffe.backend.protocols.blas import BlasOps
from poseidon_caffe.backend.protocols.capture import CaptureOps
from poseidon_caffe.backend.protocols.columns import ColumnOps
from poseidon_caffe.backend.protocols.elementwise import ElementwiseOps
from poseidon_caffe.backend.protocols.faults import FaultOps
from poseidon_caffe.backend.protocols.feed import FeedOps
from poseidon_caffe.backend.protocols.functions import FunctionOps
from poseidon_caffe.backend.protocols.indexing import IndexingOps
from poseidon_caffe.backend.protocols.kernels import (
    BatchNormKernel,
    ConvKernel,
    LrnKernel,
    PoolKernel,
)
from poseidon_caffe.backend.protocols.label_losses import LabelLossOps
from poseidon_caffe.backend.protocols.loss import LossOps
from poseidon_caffe.backend.protocols.loss_results import LossResultOps
from poseidon_caffe.backend.protocols.loss_scale import LossScaleOps
from poseidon_caffe.backend.protocols.memory import Memory
from poseidon_caffe.backend.protocols.moments import MomentOps
from poseidon_caffe.backend.protocols.pair_losses import PairLossOps
from poseidon_caffe.backend.protocols.random import RandomOps
from poseidon_caffe.backend.protocols.recurrent import RecurrentOps
from poseidon_caffe.backend.protocols.reduction import ReductionOps
from poseidon_caffe.backend.protocols.running_moments import RunningMomentOps
from poseidon_caffe.backend.protocols.scores import ScoreOps
from poseidon_caffe.backend.protocols.total import TotalOps
from poseidon_caffe.backend.protocols.transfer import TransferOps
from poseidon_caffe.backend.protocols.update import UpdateOps

__all__ = ["Ops"]


class Ops(
    BlasOps,
    ActivationOps,
    FunctionOps,
    ElementwiseOps,
    ColumnOps,
    MomentOps,
    LossOps,
    LossResultOps,
    LabelLossOps,
    PairLossOps,
    FaultOps,
    ScoreOps,
    ReductionOps,
    RunningMomentOps,
    IndexingOps,
    RandomOps,
    RecurrentOps,
    UpdateOps,
    LossScaleOps,
    TotalOps,
    FeedOps,
    TransferOps,
    CaptureOps,
    Protocol,
):
    """Everything a layer may ask of a backend.

    Attributes:
        name: "reference", "cpu" or "gpu".
        channels_last: whether activations of 4 or 5 axes should be stored so.
        supports_float64: whether float64 arrays run at full function.
        fuses_relu_backward: whether `batch_norm` takes a ReLU in training too, whose
            backward its kernel then does (others take one in scoring only), and
            whether a ReLU's gradient goes to several places, or is added up, in one
            pass.
        note: what the user should be told once about this backend, or None.
    """

    name: str
    channels_last: bool
    supports_float64: bool
    fuses_relu_backward: bool
    note: str | None

    @property
    def activation_dtype(self) -> np.dtype | None:
        """The type of 16 bits that activations are stored in, or None."""

    @property
    def memory(self) -> Memory:
        """Where the arrays of every call live."""

    @property
    def host(self) -> Ops:
        """The backend for NumPy arrays: this one, unless its memory is a device's."""

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
