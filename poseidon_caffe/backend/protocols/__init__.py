"""What kernels look like from a layer: the Ops interface, split by family.

Shapes are Caffe's (N, C, H, W); arrays may be strided (channels-last) and all
arrays of one call have one floating dtype.  Outputs are preallocated by the
caller, fully overwritten unless ``accumulate`` says otherwise, and may be the
same array as an input only where a method says "in place allowed".

Kernels that depend on a shape are objects made once per shape (``ops.convolution
(geometry)``), so that a backend can keep primitives and packed weights with them.
"""

from __future__ import annotations

from poseidon_caffe.backend.protocols.activation import ActivationOps
from poseidon_caffe.backend.protocols.blas import BlasOps
from poseidon_caffe.backend.protocols.capture import CaptureOps, Replay
from poseidon_caffe.backend.protocols.columns import ColumnOps
from poseidon_caffe.backend.protocols.elementwise import ElementwiseOps
from poseidon_caffe.backend.protocols.faults import FaultOps, NumberCheck, NumberError
from poseidon_caffe.backend.protocols.feed import Delivery, FeedOps, Stage
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
from poseidon_caffe.backend.protocols.loss_results import (
    LossResultOps,
    Sums,
    Weight,
)
from poseidon_caffe.backend.protocols.loss_scale import LossScale, LossScaleOps
from poseidon_caffe.backend.protocols.memory import Memory
from poseidon_caffe.backend.protocols.moments import MomentOps
from poseidon_caffe.backend.protocols.ops import Ops
from poseidon_caffe.backend.protocols.pair_losses import PairLossOps
from poseidon_caffe.backend.protocols.random import RandomOps
from poseidon_caffe.backend.protocols.recurrent import RecurrentOps, SequenceKernel
from poseidon_caffe.backend.protocols.reducing import Reducer
from poseidon_caffe.backend.protocols.reduction import ReduceKind, ReductionOps
from poseidon_caffe.backend.protocols.running_moments import RunningMomentOps
from poseidon_caffe.backend.protocols.scores import ScoreOps
from poseidon_caffe.backend.protocols.transfer import Moment, TransferOps, Transfers
from poseidon_caffe.backend.protocols.update import UpdateOps, UpdateSegment

__all__ = [
    "ActivationOps",
    "BatchNormKernel",
    "BlasOps",
    "CaptureOps",
    "ColumnOps",
    "ConvKernel",
    "Delivery",
    "ElementwiseOps",
    "FaultOps",
    "FeedOps",
    "FunctionOps",
    "IndexingOps",
    "LabelLossOps",
    "LossOps",
    "LossResultOps",
    "LossScale",
    "LossScaleOps",
    "LrnKernel",
    "Memory",
    "Moment",
    "MomentOps",
    "NumberCheck",
    "NumberError",
    "Ops",
    "PairLossOps",
    "PoolKernel",
    "RandomOps",
    "RecurrentOps",
    "ReduceKind",
    "Reducer",
    "ReductionOps",
    "Replay",
    "RunningMomentOps",
    "ScoreOps",
    "SequenceKernel",
    "Stage",
    "Sums",
    "TransferOps",
    "Transfers",
    "UpdateOps",
    "UpdateSegment",
    "Weight",
]
