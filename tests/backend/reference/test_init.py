from __future__ import annotations

import inspect

import pytest

from poseidon_caffe.backend import protocols
from poseidon_caffe.backend.geometry import (
    BatchNormGeometry,
    ConvGeometry,
    LrnGeometry,
    PoolGeometry,
)

SHAPE = (1, 16, 4, 4)
TWO = (2, 2)
KERNELS = {
    "ConvKernel": lambda ops: ops.convolution(
        ConvGeometry(SHAPE, 16, TWO, TWO, (0, 0), (1, 1))
    ),
    "PoolKernel": lambda ops: ops.pooling(
        PoolGeometry(SHAPE, (1, 16, 2, 2), TWO, TWO, (0, 0), "max")
    ),
    "LrnKernel": lambda ops: ops.lrn(LrnGeometry(SHAPE, 5, 1.0, 0.75, 1.0, True)),
    "BatchNormKernel": lambda ops: ops.batch_norm(
        BatchNormGeometry(SHAPE, 1e-5, False)
    ),
    "Ops": lambda ops: ops,
}


@pytest.mark.parametrize("name", KERNELS)
def test_every_call_of_the_interface_is_taken(kit, name):
    """Same parameters, names, order and defaults as the Protocol."""
    ops = getattr(kit.ops, "inner", kit.ops)  # not the facade of the GPU backend
    protocol, made = getattr(protocols, name), KERNELS[name](ops)
    for called, method in inspect.getmembers(protocol, inspect.isfunction):
        if called.startswith("_"):
            continue
        want = list(inspect.signature(method).parameters.values())[1:]
        got = list(inspect.signature(getattr(made, called)).parameters.values())
        assert [(p.name, p.kind, p.default) for p in got] == [
            (p.name, p.kind, p.default) for p in want
        ], called


def test_backends_say_what_they_are(kit):
    assert isinstance(kit.ops.name, str)
    assert isinstance(kit.ops.channels_last, bool)
    assert isinstance(kit.ops.supports_float64, bool)
    assert kit.ops.note is None
