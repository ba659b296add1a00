from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from poseidon_caffe.errors import ParseError
from poseidon_caffe.schema import messages, wire

GOLDEN = Path(__file__).parents[1] / "golden"


def _join(pieces):
    data = b"".join(wire.piece_buffer(piece) for piece in pieces)
    assert len(data) == wire.piece_bytes(pieces)
    return data


def _stored(blob):
    return wire.BlobArrays(wire.blob_to_array(blob), wire.diff_to_array(blob))


FLOATS = hnp.arrays(
    st.sampled_from([np.float32, np.float64]),
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3),
    elements=st.floats(width=32, allow_nan=False),
)


@given(FLOATS, st.booleans())
def test_arrays_come_back(array, with_diff):
    diff = -array if with_diff else None
    blob = wire.array_to_blob(array, diff=diff)
    again = messages.BlobProto.FromString(blob.SerializeToString())
    back = wire.blob_to_array(again)
    np.testing.assert_array_equal(back, array)
    assert back.shape == array.shape
    if array.size:  # without values nothing tells the type, nor a diff
        assert back.dtype == array.dtype
        if with_diff:
            np.testing.assert_array_equal(wire.diff_to_array(again), diff)
        else:
            assert wire.diff_to_array(again) is None


def test_same_bytes_as_protobuf_makes():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    blob = messages.BlobProto(data=array.ravel(), diff=-array.ravel())
    blob.shape.dim.extend([2, 3])
    ours = wire.array_to_blob(array, diff=-array)
    assert ours == blob
    assert ours.SerializeToString() == blob.SerializeToString()


def test_layouts_and_types():
    base = np.arange(24).reshape(2, 3, 4)
    for array in (base.T, base[:, ::-1], base.astype(">f4"), base.astype(np.float16)):
        blob = wire.array_to_blob(array)
        np.testing.assert_array_equal(wire.blob_to_array(blob), array)
        assert not blob.double_data
    big_endian = wire.array_to_blob(base.astype(">f8"))
    np.testing.assert_array_equal(wire.blob_to_array(big_endian), base)


def test_diff_is_stored_as_its_data():
    data = np.ones(2)
    blob = wire.array_to_blob(data, diff=np.ones(2, np.float32))
    assert list(blob.double_diff) == [1, 1]
    assert not blob.diff


def test_fill_replaces():
    blob = messages.BlobProto(num=1, data=[1, 2], double_data=[3])
    wire.fill_blob(blob, np.zeros(1, np.float32))
    assert blob == messages.BlobProto(shape=messages.BlobShape(dim=[1]), data=[0])


def test_ten_million_floats_are_quick():
    array = np.ones((10, 1000, 1000), np.float32)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        blob = wire.array_to_blob(array)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.5  # 0.07 s when alone; extend() takes 2 s
    assert len(blob.data) == array.size


def test_legacy_shape():
    blob = messages.BlobProto(num=1, channels=2, height=3, width=1, data=range(6))
    assert wire.blob_to_array(blob).shape == (1, 2, 3, 1)
    blob.shape.dim.append(6)  # Caffe too looks at the old fields first
    assert wire.blob_shape(blob) == (1, 2, 3, 1)


def test_without_shape():
    assert wire.blob_shape(messages.BlobProto(data=[1])) == ()
    assert wire.blob_shape(messages.BlobProto(data=[1, 2])) == (2,)
    assert wire.blob_shape(messages.BlobProto()) == (0,)


def test_wrong_number_of_values():
    blob = messages.BlobProto(data=[1, 2, 3])
    blob.shape.dim.extend([2, 2])
    with pytest.raises(ParseError, match=r"\(2, 2\) needs 4 values but holds 3"):
        wire.blob_to_array(blob)


def test_caffemodel_byte_for_byte():
    data = (GOLDEN / "solvers/resume_sgd.caffemodel").read_bytes()
    net = messages.NetParameter.FromString(data)
    blobs = [[_stored(blob) for blob in layer.blobs] for layer in net.layer]
    assert sum(map(len, blobs)) == 4
    assert _join(wire.net_pieces(net, blobs)) == data


def test_solverstate_byte_for_byte():
    data = (GOLDEN / "solvers/resume_sgd.solverstate").read_bytes()
    state = messages.SolverState.FromString(data)
    history = [wire.blob_to_array(blob) for blob in state.history]
    assert _join(wire.state_pieces(state, history)) == data


def test_net_pieces_keep_every_field():
    net = messages.NetParameter(name="n", force_backward=True, bn_stats_batch_size=3)
    net.state.phase = messages.TRAIN
    layer = net.layer.add(name="a", type="Convolution", loss_weight=[0.5])
    layer.param.add(lr_mult=2)
    layer.include.add().stage.append("s")
    layer.convolution_param.kernel_size.append(3)
    layer.quantization_param.bw_params = 8
    net.layer.add(name="b" * 300)
    array = np.arange(300, dtype=np.float32)
    stored = [wire.BlobArrays(array, array + 1), wire.BlobArrays(array[:1])]
    again = messages.NetParameter.FromString(_join(wire.net_pieces(net, [stored, []])))
    for one in stored:
        wire.fill_blob(layer.blobs.add(), one.data, diff=one.diff)
    assert again == net
    assert _join(wire.net_pieces(net, [stored, []])) == again.SerializeToString()


def test_net_pieces_want_one_entry_a_layer():
    net = messages.NetParameter()
    net.layer.add()
    with pytest.raises(ValueError, match="shorter"):
        wire.net_pieces(net, [])


def test_blob_vector():
    arrays = [
        wire.BlobArrays(np.ones(2, np.float32)),
        wire.BlobArrays(np.zeros((1, 1))),
    ]
    vector = messages.BlobProtoVector.FromString(_join(wire.blobs_pieces(arrays)))
    assert [wire.blob_shape(blob) for blob in vector.blobs] == [(2,), (1, 1)]


def test_contiguous_arrays_are_not_copied():
    array = np.zeros(4, np.float32)
    buffer = wire.piece_buffer(array)
    array[0] = 1
    assert bytes(buffer) == array.tobytes()
