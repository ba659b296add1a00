"""Opening a GPU: the real one, or the emulator's, with cuDNN where it is installed."""

from __future__ import annotations

from poseidon_caffe.backend.gpu.ops import GpuOps
from poseidon_caffe.backend.gpu.settings import GpuSettings
from poseidon_caffe.backend.protocols import Ops
from poseidon_caffe.errors import BackendError

__all__ = ["open_gpu"]


def open_gpu(settings: GpuSettings, host: Ops) -> GpuOps:
    """The backend on the GPU that the settings name.

    Args:
        settings: which GPU, and how to compute.
        host: the backend for NumPy arrays.

    Raises:
        BackendError: there is no such GPU, no driver or no CuPy.
    """
    if settings.emulated:
        from poseidon_caffe.backend.gpu.emulator.device import EmulatedDevice

        return GpuOps(EmulatedDevice(settings.device), host, settings)
    from poseidon_caffe.backend.gpu.cupy_device import CupyDevice
    from poseidon_caffe.backend.gpu.inventory import check_gpu

    check_gpu(settings.device)
    device = CupyDevice(settings.device, tf32=settings.precision == "tf32")
    if settings.cudnn != "off":
        from poseidon_caffe.backend.gpu.cudnn.library import open_library
        from poseidon_caffe.backend.gpu.cudnn.ops import CudnnOps

        try:
            return CudnnOps(device, host, settings, open_library())
        except BackendError as error:
            ops = GpuOps(device, host, settings)
            ops.note = (
                f"cuDNN cannot be used ({error}); convolutions run on Poseidon's own "
                "kernels, which are slower: pip install nvidia-cudnn-cu13 (or -cu12)"
            )
            return ops
    return GpuOps(device, host, settings)
