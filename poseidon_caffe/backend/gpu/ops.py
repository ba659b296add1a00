"""GpuOps: CUDA kernels, cuBLAS, and cuDNN where it is installed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from poseidon_caffe.backend.gpu.activation import GpuActivation
from poseidon_caffe.backend.gpu.base import Scratch
from poseidon_caffe.backend.gpu.batch_norm import GpuBatchNormalisation
from poseidon_caffe.backend.gpu.blas import GpuBlas
from poseidon_caffe.backend.gpu.capture import GpuCapture
from poseidon_caffe.backend.gpu.convolution import GpuConvolution
from poseidon_caffe.backend.gpu.device import Device
from poseidon_caffe.backend.gpu.elementwise import GpuElementwise
from poseidon_caffe.backend.gpu.feed import GpuFeed
from poseidon_caffe.backend.gpu.functions import GpuFunctions
from poseidon_caffe.backend.gpu.indexing import GpuIndexing
from poseidon_caffe.backend.gpu.label_losses import GpuLabelLosses
from poseidon_caffe.backend.gpu.loss_scale import GpuLossScale
from poseidon_caffe.backend.gpu.lrn import GpuNormalisation
from poseidon_caffe.backend.gpu.memory import DeviceMemory
from poseidon_caffe.backend.gpu.moments import GpuMoments
from poseidon_caffe.backend.gpu.pair_losses import GpuPairLosses
from poseidon_caffe.backend.gpu.pooling import GpuPooling
from poseidon_caffe.backend.gpu.random import GpuRandom
from poseidon_caffe.backend.gpu.recurrent import GpuRecurrent
from poseidon_caffe.backend.gpu.reduction import GpuReduction
from poseidon_caffe.backend.gpu.running_moments import GpuRunningMoments
from poseidon_caffe.backend.gpu.scores import GpuScores
from poseidon_caffe.backend.gpu.settings import GpuSettings
from poseidon_caffe.backend.gpu.total import GpuTotal
from poseidon_caffe.backend.gpu.transfer import GpuTransfer
from poseidon_caffe.backend.half import BFLOAT16, HALF
from poseidon_caffe.backend.protocols import Ops

__all__ = ["GpuOps"]


class GpuOps(
    GpuRecurrent,
    GpuBlas,
    GpuConvolution,
    GpuPooling,
    GpuNormalisation,
    GpuLabelLosses,
    GpuPairLosses,
    GpuScores,
    GpuBatchNormalisation,
    GpuMoments,
    GpuReduction,
    GpuRunningMoments,
    GpuLossScale,
    GpuIndexing,
    GpuTotal,
    GpuFeed,
    GpuTransfer,
    GpuCapture,
    GpuRandom,
    GpuElementwise,
    GpuActivation,
    GpuFunctions,
):
    """Kernels on a GPU.

    Args:
        device: the GPU.
        host: the backend for NumPy arrays.
        settings: precision, determinism, layout.
    """

    name: str = "gpu"
    supports_float64: bool = True
    fuses_relu_backward: bool = True
    note: str | None = None

    def __init__(self, device: Device, host: Ops, settings: GpuSettings) -> None:
        self.device = device
        self.memory = DeviceMemory(device)
        self.scratch = Scratch(self.memory)
        self.settings = settings
        self.channels_last = settings.channels_last is not False
        self._host = host
        super().__init__()

    @property
    def activation_dtype(self) -> np.dtype | None:
        """The type of 16 bits that the settings ask for, or None."""
        return {"bf16": BFLOAT16, "fp16": HALF}.get(self.settings.precision)

    @property
    def host(self) -> Ops:
        """The backend for NumPy arrays."""
        return self._host

    def parallel(self, work: Sequence[Callable[[], None]]) -> None:
        """Run independent pieces of work, one after the other on the one stream."""
        for piece in work:
            piece()
