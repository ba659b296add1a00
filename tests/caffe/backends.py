"""The backends that recordings of Caffe are replayed on, and how near they come."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from poseidon_caffe import caffe
from poseidon_caffe.caffe import state
from tests.devices import ON_CUDA, gpu_ops

__all__ = ["BACKENDS", "replay_on", "times"]

BACKENDS = ("cpu", "reference", "gpu")


def times(backend: str) -> float:
    """Factor of the recordings' tolerance: CUDA's mathematics is its own (rtol 1e-3).

    The emulator, which computes by C++ on the processor, keeps to the tolerance.
    """
    return 10.0 if backend == "gpu" and ON_CUDA else 1.0


@contextmanager
def replay_on(name: str) -> Iterator[None]:
    """Nets opened inside the block run on backend ``name``; "gpu" is the tests' own."""
    if name == "gpu":
        state._state.ops["gpu 0"] = gpu_ops()
    with caffe.use_backend(name):
        yield
