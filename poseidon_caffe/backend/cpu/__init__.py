"""The fast CPU backend: oneDNN where it is strong, NumPy for the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from poseidon_caffe.backend.cpu.activation import CpuActivation
from poseidon_caffe.backend.cpu.affine import CpuAffine
from poseidon_caffe.backend.cpu.batch_norm import DnnlBatchNorm
from poseidon_caffe.backend.cpu.blas import CpuBlas
from poseidon_caffe.backend.cpu.columns import CpuColumns
from poseidon_caffe.backend.cpu.conv import DnnlConv
from poseidon_caffe.backend.cpu.dnnl import Dnnl, load
from poseidon_caffe.backend.cpu.elementwise import CpuElementwise
from poseidon_caffe.backend.cpu.functions import CpuFunctions
from poseidon_caffe.backend.cpu.indexing import CpuIndexing
from poseidon_caffe.backend.cpu.joining import CpuJoining
from poseidon_caffe.backend.cpu.label_losses import CpuLabelLosses
from poseidon_caffe.backend.cpu.loss import CpuLoss
from poseidon_caffe.backend.cpu.lrn import DnnlLrn
from poseidon_caffe.backend.cpu.normalize import DnnlMoments
from poseidon_caffe.backend.cpu.pair_losses import CpuPairLosses
from poseidon_caffe.backend.cpu.pool import DnnlPool
from poseidon_caffe.backend.cpu.random import CpuRandom
from poseidon_caffe.backend.cpu.recurrent import CpuRecurrent
from poseidon_caffe.backend.cpu.stochastic_pool import CpuStochasticPool
from poseidon_caffe.backend.cpu.update import CpuUpdate
from poseidon_caffe.backend.geometry import (
    BatchNormGeometry,
    ConvGeometry,
    LrnGeometry,
    PoolGeometry,
)
from poseidon_caffe.backend.memory import HOST, HostMemory
from poseidon_caffe.backend.protocols import Ops, PoolKernel
from poseidon_caffe.backend.reference.capture import ReferenceCapture
from poseidon_caffe.backend.reference.faults import ReferenceFaults
from poseidon_caffe.backend.reference.feed import ReferenceFeed
from poseidon_caffe.backend.reference.loss_results import ReferenceLossResults
from poseidon_caffe.backend.reference.loss_scale import ReferenceLossScale
from poseidon_caffe.backend.reference.reduction import ReferenceReduction
from poseidon_caffe.backend.reference.running_moments import ReferenceRunningMoments
from poseidon_caffe.backend.reference.scores import ReferenceScores
from poseidon_caffe.backend.reference.total import ReferenceTotal
from poseidon_caffe.backend.reference.transfer import ReferenceTransfer
from poseidon_caffe.backend.reference.workspace import Workspace
from poseidon_caffe.backend.threads import ThreadPool

__all__ = ["CpuOps"]


class CpuOps(
    CpuBlas,
    CpuActivation,
    CpuFunctions,
    CpuColumns,
    CpuJoining,
    CpuAffine,
    CpuElementwise,
    DnnlMoments,
    CpuLoss,
    ReferenceLossResults,
    CpuLabelLosses,
    CpuPairLosses,
    ReferenceFaults,
    ReferenceScores,
    ReferenceReduction,
    ReferenceRunningMoments,
    CpuIndexing,
    CpuRandom,
    CpuRecurrent,
    CpuUpdate,
    ReferenceLossScale,
    ReferenceTotal,
    ReferenceFeed,
    ReferenceTransfer,
    ReferenceCapture,
):
    """Kernels on oneDNN with activations stored channels-last.

    Args:
        threads: OpenMP threads of a kernel.

    Raises:
        BackendError: no oneDNN library can be loaded.
    """

    name: str = "cpu"
    channels_last: bool = True
    supports_float64: bool = False
    fuses_relu_backward: bool = False
    activation_dtype: None = None
    note: str | None = None
    memory: HostMemory = HOST

    def __init__(self, threads: int) -> None:
        self.dnnl: Dnnl = load()
        self.threads = threads
        self.dnnl.set_threads(threads)
        super().__init__()
        self._workspace = Workspace()
        self._pool = ThreadPool(threads)

    @property
    def host(self) -> Ops:
        """This backend."""
        return self

    def convolution(self, geometry: ConvGeometry) -> DnnlConv:
        """A convolution kernel for ``geometry``."""
        return DnnlConv(geometry, self.dnnl, self._workspace)

    def pooling(self, geometry: PoolGeometry) -> PoolKernel:
        """A pooling kernel for ``geometry``."""
        if geometry.method == "stochastic":
            return CpuStochasticPool(geometry, self._pool, self.dnnl)
        return DnnlPool(geometry, self.dnnl)

    def lrn(self, geometry: LrnGeometry) -> DnnlLrn:
        """A local response normalisation kernel for ``geometry``."""
        return DnnlLrn(geometry, self.dnnl, self._pool)

    def batch_norm(self, geometry: BatchNormGeometry) -> DnnlBatchNorm:
        """A batch normalisation kernel for ``geometry``."""
        return DnnlBatchNorm(geometry, self.dnnl)

    def parallel(self, work: Sequence[Callable[[], None]]) -> None:
        """Run independent pieces of work on the backend's threads."""
        self._pool.run(work)
