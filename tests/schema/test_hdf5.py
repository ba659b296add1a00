from __future__ import annotations

import builtins
import contextlib
import resource
import signal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from poseidon_caffe.errors import ParseError, PoseidonError, SnapshotError
from poseidon_caffe.schema import hdf5
from poseidon_caffe.schema.hdf5 import LayerArrays, StateArrays

h5py = pytest.importorskip("h5py")

SOLVERS = Path(__file__).parents[1] / "golden/solvers"
NET = SOLVERS / "resume_sgd_h5.caffemodel.h5"
STATE = SOLVERS / "resume_sgd_h5.solverstate.h5"


def _layout(path):
    """Everything a C reader can see of a file: names, types, shapes, values."""
    found = {}

    def visit(name, item):
        if isinstance(item, h5py.Dataset):
            kind = item.id.get_type()
            string = isinstance(kind, h5py.h5t.TypeStringID)
            pad = kind.get_strpad() if string else None
            value = item[()].tolist()
            found[name] = (kind.get_class(), kind.get_size(), pad, item.shape, value)
        else:
            found[name] = sorted(item)

    with h5py.File(path) as file:
        file.visititems(visit)
    return found


def test_net_as_caffe_lays_it_out(tmp_path):
    layers = hdf5.read_net_hdf5(NET)
    shapes = {layer.name: [array.shape for array in layer.data] for layer in layers}
    assert shapes == {
        "data": [],
        "ip1": [(10, 6), (10,)],
        "relu1": [],
        "ip2": [(4, 10), (4,)],
        "loss": [],
    }
    hdf5.write_net_hdf5(tmp_path / "n.h5", layers)
    assert _layout(tmp_path / "n.h5") == _layout(NET)
    assert [path.name for path in tmp_path.iterdir()] == ["n.h5"]


def test_state_as_caffe_lays_it_out(tmp_path):
    state = hdf5.read_state_hdf5(STATE)
    assert (state.iter, state.current_step) == (6, 0)
    assert state.learned_net == "snap_iter_6.caffemodel.h5"
    assert [array.shape for array in state.history] == [(10, 6), (10,), (4, 10), (4,)]
    hdf5.write_state_hdf5(tmp_path / "s.h5", state)
    assert _layout(tmp_path / "s.h5") == _layout(STATE)


def test_more_than_ten_arrays_keep_their_order(tmp_path):
    history = tuple(np.full(2, index, np.float32) for index in range(12))
    hdf5.write_state_hdf5(tmp_path / "s", StateArrays(3, "ü.h5", 1, history))
    state = hdf5.read_state_hdf5(tmp_path / "s")
    assert [int(array[0]) for array in state.history] == list(range(12))
    assert (state.iter, state.learned_net, state.current_step) == (3, "ü.h5", 1)


def test_shared_parameters_diffs_and_slashes(tmp_path):
    """GoogLeNet's names have slashes, which make groups within groups."""
    a, b = np.ones((2, 2), np.float32), np.zeros((3,), np.float64)
    layers = (
        LayerArrays("inception/1x1", (a, b), (a + 1, b + 1)),
        LayerArrays("inception/1x1/relu", (), ()),
        LayerArrays("owner", (a,), (a,)),
        LayerArrays("user", (None, b), (a, b)),
        LayerArrays(
            "scalar", (np.float32(3).reshape(()),), (np.zeros((), np.float32),)
        ),
    )
    hdf5.write_net_hdf5(tmp_path / "n", layers, write_diff=True)
    found = {layer.name: layer for layer in hdf5.read_net_hdf5(tmp_path / "n")}
    assert set(found) == {layer.name for layer in layers}
    for layer in layers:
        for ours, theirs in ((layer.data, "data"), (layer.diff, "diff")):
            for expected, got in zip(
                ours, getattr(found[layer.name], theirs), strict=True
            ):
                assert (expected is None) == (got is None)
                if expected is not None:
                    assert got.dtype == expected.dtype
                    assert got.shape == expected.shape
                    np.testing.assert_array_equal(got, expected)


def test_channels_last_views_are_stored_in_order(tmp_path):
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(0, 2, 1)
    hdf5.write_net_hdf5(tmp_path / "n", [LayerArrays("a", (array,))])
    ((layer),) = hdf5.read_net_hdf5(tmp_path / "n")
    np.testing.assert_array_equal(layer.data[0], array)


def test_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "n.h5"
    path.write_bytes(b"old")
    layers = [LayerArrays("a", (np.ones(2, np.float32),))] * 2
    with pytest.raises(SnapshotError, match=r"n\.h5: not written"):
        hdf5.write_net_hdf5(path, layers)
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["n.h5"]


def test_full_disk_in_one_line(tmp_path):
    """A limit on file sizes stands for the full disk: HDF5's write() fails."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(
            SnapshotError, match=r"n: not written: File too large; what"
        ):
            hdf5.write_net_hdf5(
                tmp_path / "n", [LayerArrays("a", (np.ones(1 << 16, np.float32),))]
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert not list(tmp_path.iterdir())


def test_folder_that_does_not_exist(tmp_path):
    with pytest.raises(SnapshotError, match="make the folder"):
        hdf5.write_net_hdf5(tmp_path / "nowhere" / "a.h5", [])


@pytest.mark.parametrize("read", [hdf5.read_net_hdf5, hdf5.read_state_hdf5])
def test_not_hdf5(tmp_path, read):
    (tmp_path / "a.h5").write_bytes(b"\x0a\x05LeNet")
    with pytest.raises(ParseError, match=r"a\.h5: not a whole HDF5 file.* 7 bytes"):
        read(tmp_path / "a.h5")
    with pytest.raises(ParseError, match=r"did you mean a\.h5"):
        read(tmp_path / "b.h5")
    with pytest.raises(ParseError, match="is a directory"):
        read(tmp_path)


def test_net_and_state_mixed_up():
    with pytest.raises(ParseError, match=r"'iter' is expected in it, found: data"):
        hdf5.read_state_hdf5(NET)
    with pytest.raises(ParseError, match=r"group 'data' is expected.*history, iter"):
        hdf5.read_net_hdf5(STATE)


def test_gap_in_the_history(tmp_path):
    with h5py.File(tmp_path / "s", "w") as file:
        file["iter"] = [1]
        file["history/1"] = [1.0]
    with pytest.raises(ParseError, match="without gaps"):
        hdf5.read_state_hdf5(tmp_path / "s")


def test_absurd_numbers(tmp_path):
    with h5py.File(tmp_path / "n", "w") as file:
        file["data/a/999999999999"] = [1.0]
    with pytest.raises(ParseError, match="a parameter numbered 999999999999"):
        hdf5.read_net_hdf5(tmp_path / "n")


def test_without_h5py(monkeypatch):
    real = builtins.__import__

    def no_h5py(name, *args, **kwargs):
        if name == "h5py":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_h5py)
    with pytest.raises(PoseidonError, match=r"pip install poseidon-caffe\[hdf5\]"):
        hdf5.read_net_hdf5(NET)


DATA = STATE.read_bytes()


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(place=st.integers(0, len(DATA) - 1), cut=st.booleans(), byte=st.integers(0, 255))
def test_damaged_files_give_a_state_or_a_parse_error(tmp_path, place, cut, byte):
    damaged = DATA[:place] if cut else DATA[:place] + bytes([byte]) + DATA[place + 1 :]
    (tmp_path / "s.h5").write_bytes(damaged)
    with contextlib.suppress(ParseError):
        hdf5.read_state_hdf5(tmp_path / "s.h5")
