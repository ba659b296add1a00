"""Layers against recordings of Caffe 1.0, driven without a net."""

from __future__ import annotations

from typing import Any

import pytest

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.backend.protocols import Ops
from poseidon_caffe.backend.reference import ReferenceOps
from poseidon_caffe.layers.base import LayerContext
from poseidon_caffe.layers.registry import known_types, layer_class
from poseidon_caffe.schema.messages import NetParameter
from poseidon_caffe.schema.text import parse_prototxt
from poseidon_caffe.types import Phase
from tests.golden_support import Recording, assert_close, cases
from tests.layers.harness import Run


def recorded_net(recording: Recording) -> Any:
    return parse_prototxt(recording.text("net"), NetParameter, recording.name)


def recorded_layer(recording: Recording) -> Any:
    layers = recorded_net(recording).layer
    return next(layer for layer in layers if layer.name == "layer")


def known(name: str) -> bool:
    return recorded_layer(Recording.load("layers", name)).type in known_types()


CASES = [name for name in cases("layers") if known(name)]


def rebuild(recording: Recording, ops: Ops) -> Run:
    param = recorded_layer(recording)
    phase = Phase[recording.text("phase")]
    context = LayerContext(ops, phase)
    layer = layer_class(param.type)(param, context)
    given = dict(recording.under("in"))
    bottom = [
        Blob(given[name].shape, channels_last=ops.channels_last)
        for name in param.bottom
    ]
    top = [Blob(channels_last=ops.channels_last) for _ in param.top]
    layer.check_arity(len(bottom), len(top))
    for blob, name in zip(bottom, param.bottom, strict=True):
        blob.data[...] = given[name]
    layer.setup(bottom, top)
    layer.reshape(bottom, top)
    run = Run(layer, bottom, top)
    stored = dict(recording.under("param"))
    run.set_params([stored[str(i)] for i in range(len(layer.blobs))])
    return run


def replay(recording: Recording, ops: Ops) -> None:
    run = rebuild(recording, ops)
    param = run.layer.param
    out, diffs = dict(recording.under("out")), dict(recording.under("out_diff"))
    for name, y in zip(param.top, run.forward(), strict=True):
        assert_close(y, out[name], f"top {name}")
    for i, expected in recording.under("param_after"):
        assert_close(run.layer.blobs[int(i)].data, expected, f"param {i} afterwards")
    wanted = dict(recording.under("in_diff"))
    if not wanted and not dict(recording.under("param_diff")):
        return
    if not (recorded_net(recording).force_backward or run.layer.blobs):
        # Nothing is learned there, so Caffe's net ran no backward: it left zeros.
        assert not any(values.any() for values in wanted.values())
        return
    run.set_top_diffs([diffs[name] for name in param.top])
    # Now, as the recording did: Parameter shares its gradient with its top.
    for blob in run.layer.blobs:
        blob.diff[...] = 0
    down = [
        name in wanted and run.layer.allow_force_backward(i)
        for i, name in enumerate(param.bottom)
    ]
    got = run.backward(down)
    for name, asked, dx in zip(param.bottom, down, got, strict=True):
        if asked:
            assert_close(dx, wanted[name], f"gradient of {name}")
    for i, expected in recording.under("param_diff"):
        assert_close(run.layer.blobs[int(i)].diff, expected, f"gradient of param {i}")


@pytest.mark.parametrize("name", CASES)
def test_reference_computes_what_caffe_computed(name: str) -> None:
    replay(Recording.load("layers", name), ReferenceOps())


@pytest.mark.parametrize("name", CASES)
def test_cpu_computes_what_caffe_computed(name: str, cpu: Ops) -> None:
    replay(Recording.load("layers", name), cpu)


def test_recordings_cover_the_types_of_this_issue() -> None:
    types = {recorded_layer(Recording.load("layers", name)).type for name in CASES}
    assert len(types) >= 25
