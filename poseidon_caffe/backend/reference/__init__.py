"""The reference backend: plain NumPy, float32 and float64, any memory layout.

It says what every kernel means, and is what runs where oneDNN does not.
"""

from __future__ import annotations

from poseidon_caffe.backend.memory import HOST, HostMemory
from poseidon_caffe.backend.protocols import Ops
from poseidon_caffe.backend.reference.activation import ReferenceActivation
from poseidon_caffe.backend.reference.batch_norm import ReferenceBatchNormalisation
from poseidon_caffe.backend.reference.blas import ReferenceBlas
from poseidon_caffe.backend.reference.capture import ReferenceCapture
from poseidon_caffe.backend.reference.columns import ReferenceColumns
from poseidon_caffe.backend.reference.conv import ReferenceConvolution
from poseidon_caffe.backend.reference.elementwise import ReferenceElementwise
from poseidon_caffe.backend.reference.faults import ReferenceFaults
from poseidon_caffe.backend.reference.feed import ReferenceFeed
from poseidon_caffe.backend.reference.functions import ReferenceFunctions
from poseidon_caffe.backend.reference.indexing import ReferenceIndexing
from poseidon_caffe.backend.reference.label_losses import ReferenceLabelLosses
from poseidon_caffe.backend.reference.loss import ReferenceLoss
from poseidon_caffe.backend.reference.loss_results import ReferenceLossResults
from poseidon_caffe.backend.reference.loss_scale import ReferenceLossScale
from poseidon_caffe.backend.reference.lrn import ReferenceNormalisation
from poseidon_caffe.backend.reference.moments import ReferenceMoments
from poseidon_caffe.backend.reference.pair_losses import ReferencePairLosses
from poseidon_caffe.backend.reference.pool import ReferencePooling
from poseidon_caffe.backend.reference.random import ReferenceRandom
from poseidon_caffe.backend.reference.recurrent import ReferenceRecurrent
from poseidon_caffe.backend.reference.reduction import ReferenceReduction
from poseidon_caffe.backend.reference.running_moments import ReferenceRunningMoments
from poseidon_caffe.backend.reference.scores import ReferenceScores
from poseidon_caffe.backend.reference.total import ReferenceTotal
from poseidon_caffe.backend.reference.transfer import ReferenceTransfer
from poseidon_caffe.backend.reference.update import ReferenceUpdate
from poseidon_caffe.backend.reference.workspace import Workspace

__all__ = ["ReferenceOps"]


class ReferenceOps(
    ReferenceBlas,
    ReferenceConvolution,
    ReferencePooling,
    ReferenceNormalisation,
    ReferenceBatchNormalisation,
    ReferenceActivation,
    ReferenceFunctions,
    ReferenceElementwise,
    ReferenceColumns,
    ReferenceMoments,
    ReferenceLoss,
    ReferenceLossResults,
    ReferenceLabelLosses,
    ReferencePairLosses,
    ReferenceFaults,
    ReferenceScores,
    ReferenceReduction,
    ReferenceRunningMoments,
    ReferenceIndexing,
    ReferenceRandom,
    ReferenceRecurrent,
    ReferenceUpdate,
    ReferenceLossScale,
    ReferenceTotal,
    ReferenceFeed,
    ReferenceTransfer,
    ReferenceCapture,
):
    """Every kernel in NumPy.

    Args:
        name: "reference", or "numpy" where it stands in for the CPU backend.
        note: what a user should be told about this backend, once.
    """

    channels_last: bool = False
    supports_float64: bool = True
    fuses_relu_backward: bool = True
    activation_dtype: None = None
    memory: HostMemory = HOST

    def __init__(self, name: str = "reference", note: str | None = None) -> None:
        self.name = name
        self.note = note
        self._workspace = Workspace()

    @property
    def host(self) -> Ops:
        """This backend."""
        return self
