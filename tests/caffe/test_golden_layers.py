"""Every layer type beside what Caffe 1.0 computed for it."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe import caffe
from tests.caffe.backends import BACKENDS, replay_on, times
from tests.golden_support import Recording, assert_close, cases

# Types of Caffe's catalogue that a later issue builds: take a name out once its
# layer is registered.
NOT_YET_BUILT: set[str] = set()

# Caffe cannot go backward through these, so there is nothing recorded to compare.
WITHOUT_GRADIENT = {"Accuracy", "ArgMax", "Threshold"}


def _type_of(recording: Recording) -> str:
    """Type string of the layer under test, which is named "layer"."""
    net = caffe.caffe_pb2.NetParameter()
    from google.protobuf import text_format

    text_format.Parse(recording.text("net"), net)
    (kind,) = {layer.type for layer in net.layer if layer.name == "layer"}
    return kind


RECORDINGS = {name: Recording.load("layers", name) for name in cases("layers")}
TYPES = {name: _type_of(recording) for name, recording in RECORDINGS.items()}
REGISTERED = set(caffe.layer_type_list())
BUILT = sorted(name for name, kind in TYPES.items() if kind in REGISTERED)


def test_only_types_of_later_issues_are_left_out():
    assert set(TYPES.values()) - REGISTERED == NOT_YET_BUILT


@pytest.fixture(params=BACKENDS)
def backend(request):
    with replay_on(request.param):
        yield request.param


@pytest.mark.parametrize("name", BUILT)
def test_as_caffe(name, backend, tmp_path):
    within = times(backend)
    recording = RECORDINGS[name]
    phase = getattr(caffe, recording.text("phase"))
    net = caffe.Net(recording.write("net", tmp_path / "net.prototxt"), phase)
    layer = net.layer_dict["layer"]
    for blob, values in recording.under("in"):
        net.blobs[blob].data[...] = values
    params = list(recording.under("param"))
    assert len(params) == len(layer.blobs)
    for index, values in params:
        assert layer.blobs[int(index)].shape == values.shape
        layer.blobs[int(index)].data[...] = values

    net.forward()
    for blob, values in recording.under("out"):
        assert_close(net.blobs[blob].data, values, f"out/{blob}", within)
    for index, values in recording.under("param_after"):
        assert_close(
            layer.blobs[int(index)].data, values, f"param_after/{index}", times(backend)
        )

    if not dict(recording.under("in_diff")) and not dict(recording.under("param_diff")):
        assert layer.type in WITHOUT_GRADIENT
        return
    for blob, values in recording.under("out_diff"):
        net.blobs[blob].diff[...] = values
    for blob in layer.blobs:
        blob.diff[...] = 0
    net.backward()
    for blob, values in recording.under("in_diff"):
        assert_close(net.blobs[blob].diff, values, f"in_diff/{blob}", within)
    for index, values in recording.under("param_diff"):
        assert_close(
            layer.blobs[int(index)].diff, values, f"param_diff/{index}", times(backend)
        )


# A Parameter's gradient is the memory of its top's, which each pass writes anew.
ACCUMULATING = [
    name
    for name in BUILT
    if any(RECORDINGS[name].under("param_diff")) and TYPES[name] != "Parameter"
]


@pytest.mark.parametrize("name", ACCUMULATING)
def test_a_second_backward_adds_to_the_parameter_gradients(name, backend, tmp_path):
    within = times(backend)
    recording = RECORDINGS[name]
    phase = getattr(caffe, recording.text("phase"))
    net = caffe.Net(recording.write("net", tmp_path / "net.prototxt"), phase)
    layer = net.layer_dict["layer"]
    for blob, values in recording.under("in"):
        net.blobs[blob].data[...] = values
    for index, values in recording.under("param"):
        layer.blobs[int(index)].data[...] = values
    net.clear_param_diffs()
    for _ in range(2):
        net.forward()
        for blob, values in recording.under("out_diff"):
            net.blobs[blob].diff[...] = values
        net.backward()
    for index, values in recording.under("param_diff"):
        got = layer.blobs[int(index)].diff
        assert_close(got, 2 * np.asarray(values), f"param_diff/{index}", within)
