"""The backends that recordings of Caffe are replayed on, and how near they come."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from poseidon_caffe import caffe
from poseidon_caffe.caffe import state
from tests.devices import gpu_ops

__all__ = ["BACKENDS", "replay_on"]

BACKENDS = ("cpu", "reference", "gpu")


@contextmanager
def replay_on(name: str) -> Iterator[None]:
    """Nets opened inside the block run on backend ``name``; "gpu" is the tests' own."""
    if name == "gpu":
        state._state.ops["gpu 0"] = gpu_ops()
    with caffe.use_backend(name):
        yield
