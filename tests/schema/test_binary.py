from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poseidon_caffe.errors import ParseError, SnapshotError
from poseidon_caffe.schema import binary, messages, wire

MODEL = Path(__file__).parents[1] / "golden/solvers/resume_sgd.caffemodel"
DATA = MODEL.read_bytes()


def test_round_trip(tmp_path):
    net = binary.read_binary(MODEL, messages.NetParameter)
    assert [layer.name for layer in net.layer] == [
        "data",
        "ip1",
        "relu1",
        "ip2",
        "loss",
    ]
    binary.write_binary(tmp_path / "a", net)
    assert (tmp_path / "a").read_bytes() == DATA
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("size", [1, 100, len(DATA) // 2, len(DATA) - 1])
def test_truncated(tmp_path, size):
    path = tmp_path / "a.caffemodel"
    path.write_bytes(DATA[:size])
    with pytest.raises(ParseError, match=rf"a\.caffemodel: .*{size} bytes.*cut off"):
        binary.read_binary(path, messages.NetParameter)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "the file is empty; a NetParameter is expected"),
        (b"\x89HDF\r\n\x1a\n\0\0\0\0", r"an HDF5 file.*ends in \.h5"),
        (b'name: "LeNet"\nlayer { }\n', "a text file.*prototxt"),
        (b"<!DOCTYPE html>\n<html></html>", "a web page.*download"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"\x1f\x8b\x08\x00\x00", "gzip archive.*unpack"),
        (b"\x00" * 100, "100 bytes are damaged"),
    ],
)
def test_other_kinds_of_file(tmp_path, data, said):
    path = tmp_path / "a.caffemodel"
    path.write_bytes(data)
    with pytest.raises(ParseError, match=said):
        binary.read_binary(path, messages.NetParameter)


def test_short_names_are_not_taken_for_text():
    """A message may consist of printable bytes only."""
    net = messages.NetParameter(name="abcdefghij")
    data = net.SerializeToString()
    assert binary.parse_binary(data, messages.NetParameter) == net


def test_other_message(tmp_path):
    """Bytes that parse, but hold no field of the message that is expected."""
    binary.write_binary(tmp_path / "s", messages.SolverParameter(random_seed=3))
    with pytest.raises(ParseError, match="another kind of file"):
        binary.read_binary(tmp_path / "s", messages.BlobProtoVector)


def test_write_net_and_state(tmp_path):
    net = messages.NetParameter(name="n")
    net.layer.add(name="ip", type="InnerProduct")
    weights = np.arange(6, dtype=np.float32).reshape(2, 3)
    binary.write_net(tmp_path / "n.caffemodel", net, [[wire.BlobArrays(weights)]])
    stored = binary.read_binary(tmp_path / "n.caffemodel", messages.NetParameter)
    np.testing.assert_array_equal(wire.blob_to_array(stored.layer[0].blobs[0]), weights)
    state = messages.SolverState(iter=4, learned_net="n.caffemodel", current_step=1)
    binary.write_state(tmp_path / "n.solverstate", state, [weights, weights + 1])
    again = binary.read_binary(tmp_path / "n.solverstate", messages.SolverState)
    assert (again.iter, again.learned_net, again.current_step) == (4, "n.caffemodel", 1)
    np.testing.assert_array_equal(wire.blob_to_array(again.history[1]), weights + 1)


def test_more_than_protobuf_reads_is_refused(tmp_path):
    net = messages.NetParameter()
    net.layer.add(name="huge")
    huge = np.broadcast_to(np.float32(0), (1 << 29,))  # takes no memory
    with pytest.raises(SnapshotError, match=r"21474836.. bytes.*snapshot_format: HDF5"):
        binary.write_net(tmp_path / "a", net, [[wire.BlobArrays(huge)]])
    assert not list(tmp_path.iterdir())


def test_folder_that_does_not_exist(tmp_path):
    with pytest.raises(SnapshotError, match=r"make the folder .*nowhere first"):
        binary.write_binary(tmp_path / "nowhere/a", messages.NetParameter(name="a"))


@settings(max_examples=200, deadline=None)
@given(
    place=st.integers(0, len(DATA)),
    length=st.integers(0, 20),
    insert=st.binary(max_size=12),
)
def test_damaged_bytes_give_a_message_or_a_parse_error(place, length, insert):
    data = DATA[:place] + insert + DATA[place + length :]
    with contextlib.suppress(ParseError):
        net = binary.parse_binary(data, messages.NetParameter, "a.caffemodel")
        for layer in net.layer:
            for blob in layer.blobs:
                wire.blob_to_array(blob)
