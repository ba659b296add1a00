"""CUDA graphs: a step's kernels started by one call of the driver."""

from __future__ import annotations

from collections.abc import Callable

from poseidon_caffe.backend.gpu.base import GpuFamily
from poseidon_caffe.backend.gpu.device import Graph
from poseidon_caffe.backend.gpu.memory import DeviceMemory
from poseidon_caffe.backend.gpu.settings import GpuSettings

__all__ = ["GpuCapture", "GraphReplay"]


class GraphReplay:
    """A recorded graph.

    Args:
        graph: the device's.
        memory: whose arrays it works on.
    """

    def __init__(self, graph: Graph, memory: DeviceMemory) -> None:
        self._graph, self._memory = graph, memory

    def run(self) -> None:
        """Do all of it, in turn; the host goes on at once."""
        self._memory.flush()
        self._graph.launch()
        # No kernel said which arrays it writes.
        self._memory.epoch += 1


class GpuCapture(GpuFamily):
    """`CaptureOps` on a GPU."""

    settings: GpuSettings

    @property
    def captures(self) -> bool:
        """Unless the user has forbidden it."""
        return self.settings.cuda_graph

    def capture(self, work: Callable[[], None]) -> GraphReplay:
        """Record what ``work`` does, without doing it."""
        self.memory.flush()
        return GraphReplay(self.device.capture(work), self.memory)
