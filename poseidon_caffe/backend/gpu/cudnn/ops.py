"""CudnnOps: the GPU backend with cuDNN's convolutions.

Pooling, LRN, batch normalisation and softmax stay with the backend's own kernels: those
do Caffe's windows and ties, and fuse Scale and ReLU.  ``benchmarks/gpu`` compares them.
"""

from __future__ import annotations

from typing import Any

from poseidon_caffe.backend.geometry import ConvGeometry
from poseidon_caffe.backend.gpu.capture import GraphReplay
from poseidon_caffe.backend.gpu.cudnn.convolution import (
    CudnnConvolution,
    CudnnGraphConvolution,
)
from poseidon_caffe.backend.gpu.cudnn.handle import Handle
from poseidon_caffe.backend.gpu.cudnn.library import Library
from poseidon_caffe.backend.gpu.cudnn.settings import CudnnSettings, cache_folder
from poseidon_caffe.backend.gpu.cudnn.side import OpsSide
from poseidon_caffe.backend.gpu.ops import GpuOps
from poseidon_caffe.backend.gpu.settings import GpuSettings
from poseidon_caffe.backend.protocols import ConvKernel, Ops

__all__ = ["CudnnOps"]


class CudnnOps(GpuOps):
    """`GpuOps` whose convolutions are cuDNN's where it can.

    Args:
        device: a CUDA device.
        host: the backend for NumPy arrays.
        settings: precision, determinism, layout, which of cuDNN's interfaces.
        library: cuDNN, loaded.

    Raises:
        BackendError: the library does not work on this device.
    """

    def __init__(
        self, device: Any, host: Ops, settings: GpuSettings, library: Library
    ) -> None:
        super().__init__(device, host, settings)
        self._cudnn = Handle(
            library,
            OpsSide(self, device),
            CudnnSettings(
                tf32=settings.precision == "tf32",
                deterministic=settings.deterministic,
                cache=cache_folder(),
            ),
        )

    def convolution(self, geometry: ConvGeometry) -> ConvKernel:
        """cuDNN's kernel, with the backend's own behind it."""
        own = self.plain_convolution(geometry)
        graph = self.settings.cudnn == "graph"
        kind = CudnnGraphConvolution if graph else CudnnConvolution
        return kind(geometry, self._cudnn, own)

    def capture(self, work: Any) -> GraphReplay:
        """Record what ``work`` does; cuDNN's workspace stays where it is then."""
        self._cudnn.workspace.pin()
        # What was done before need not be done again by a replay, and what is only
        # recorded has not been done: copies of weights count as old in both.
        self._cudnn.recordings += 1
        try:
            return super().capture(work)
        finally:
            self._cudnn.recordings += 1
