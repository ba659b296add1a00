"""A cuDNN handle: the library on one device's stream, with its scratch memory."""

from __future__ import annotations

import contextlib

import numpy as np

from poseidon_caffe.backend.gpu.cudnn.choices import Choices
from poseidon_caffe.backend.gpu.cudnn.constants import DataType, data_type
from poseidon_caffe.backend.gpu.cudnn.descriptors import DescriptorCache
from poseidon_caffe.backend.gpu.cudnn.device import CudnnDevice, DeviceBytes
from poseidon_caffe.backend.gpu.cudnn.layout import Layout
from poseidon_caffe.backend.gpu.cudnn.library import CArray, Library
from poseidon_caffe.backend.gpu.cudnn.settings import CudnnSettings

__all__ = ["Handle", "Workspace"]

_GRANULE = 1 << 20


class Workspace:
    """Scratch memory that all kernels of one stream share; it only grows.

    Args:
        device: where.
    """

    def __init__(self, device: CudnnDevice) -> None:
        self._device = device
        self._memory: DeviceBytes | None = None
        self._size = 0
        self._pinned: list[DeviceBytes] = []
        self._is_pinned = False

    @property
    def size(self) -> int:
        """Bytes held."""
        return self._size

    def address(self, size: int) -> int | None:
        """Where ``size`` bytes are; None (null) for none.

        Raises:
            MemoryError: the device has no such room.
        """
        if size == 0:
            return None
        if size > self._size:
            self._grow(-(-size // _GRANULE) * _GRANULE)
        assert self._memory is not None
        return self._memory.ptr

    def _grow(self, size: int) -> None:
        if self._memory is not None and self._is_pinned:
            self._pinned.append(self._memory)
        # Freed first, so that both need not fit.
        self._memory, self._size = None, 0
        self._memory, self._size = self._device.allocate(size), size

    def pin(self) -> None:
        """Keep the memory for good, as a recorded CUDA graph knows its address."""
        self._is_pinned = True


class Handle:
    """The library on one device's compute stream.

    Attributes:
        library: the loaded cuDNN.
        device: the GPU and its own kernels.
        settings: how to compute.
        choices: algorithms chosen so far, per shape.
        workspace: scratch memory.
        recordings: of CUDA graphs, begun and ended so far.
        address: of the ``cudnnHandle_t``.

    Args:
        library: the loaded cuDNN.
        device: the GPU.
        settings: how to compute.

    Raises:
        BackendError: the library does not work on this device.
    """

    def __init__(
        self, library: Library, device: CudnnDevice, settings: CudnnSettings
    ) -> None:
        self.address = 0
        self.library, self.device, self.settings = library, device, settings
        self.workspace = Workspace(device)
        self.recordings = 0
        self.choices = Choices.for_device(settings.cache, device.name, library.version)
        self._descriptors = DescriptorCache(library)
        self._stream = 0
        self._factors: dict[tuple[float, bool], CArray] = {}
        device.claim()
        self.address = library.create("cudnnCreate")
        self.bind_stream()

    def bind_stream(self) -> None:
        """Work on the device's present compute stream from here on."""
        stream = self.device.stream_ptr
        self.library.call("cudnnSetStream", self.address, stream or None)
        self._stream = stream

    def call(self, name: str, *arguments: object) -> None:
        """Call a function whose first argument is the handle.

        Raises:
            BackendError: it failed.
        """
        self._prepare()
        self.library.call(name, self.address, *arguments)

    def supported(self, name: str, *arguments: object) -> bool:
        """Likewise, where the library may answer that it does not support it."""
        self._prepare()
        return self.library.supported(name, self.address, *arguments)

    def attempt(self, name: str, *arguments: object) -> int:
        """Likewise; the status, 0 for success."""
        self._prepare()
        return self.library.attempt(name, self.address, *arguments)

    def _prepare(self) -> None:
        # A handle is of one GPU; the thread may have used another one since.
        self.device.claim()
        if self.device.stream_ptr != self._stream:
            self.bind_stream()

    def factor(self, value: float, dtype: np.dtype | type) -> CArray:
        """An alpha or beta: float64 for float64 data, float32 for all other."""
        double = data_type(dtype) is DataType.DOUBLE
        key = (value, double)
        if key not in self._factors:
            self._factors[key] = self.library.reals([value], double=double)
        return self._factors[key]

    def tensor(self, dtype: np.dtype | type, layout: Layout) -> int:
        """Address of the descriptor of arrays of this dtype that lie so."""
        return self._descriptors.tensor(dtype, layout).address

    def close(self) -> None:
        """Destroy the handle and its descriptors; harmless when done before."""
        address, self.address = self.address, 0
        if address:
            self._descriptors.close()
            self.library.attempt("cudnnDestroy", address)

    def __del__(self) -> None:
        # At the interpreter's end the library's functions may be gone already.
        with contextlib.suppress(AttributeError, TypeError):
            self.close()
