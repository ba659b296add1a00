"""What GpuOps is made of."""

from __future__ import annotations

import inspect

import pytest

from poseidon_caffe.backend.gpu.ops import GpuOps
from poseidon_caffe.backend.protocols import Ops
from poseidon_caffe.backend.reference import ReferenceOps
from tests.devices import gpu_ops

ASKED = sorted(
    name
    for name in dir(Ops)
    if not name.startswith("_") and callable(getattr(Ops, name))
)


@pytest.mark.parametrize("name", ASKED)
def test_every_operation_takes_what_the_reference_takes(name):
    """Under the same names: layers may give any of them by name."""
    mine, other = (getattr(kind, name) for kind in (GpuOps, ReferenceOps))
    assert mine.__module__.startswith("poseidon_caffe.backend.gpu.")
    ours, theirs = (inspect.signature(f).parameters for f in (mine, other))
    assert list(ours) == list(theirs)
    for one, two in zip(ours.values(), theirs.values(), strict=True):
        assert (one.kind, one.default) == (two.kind, two.default)


def test_arrays_of_the_host_go_to_the_backend_for_them():
    ops = gpu_ops()
    assert not ops.memory.is_host
    assert ops.host.memory.is_host
    assert (ops.name, ops.fuses_relu_backward) == ("gpu", True)
