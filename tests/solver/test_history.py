"""The order and checks of history blobs."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.errors import SnapshotError
from poseidon_caffe.net.hooks import ParamSlot
from poseidon_caffe.solver.history import History
from tests.devices import gpu_ops


def slots(*shapes):
    return [
        ParamSlot(i, f"layer{i}/0", i, 0, shape, 1.0, 1.0, (i,), i)
        for i, shape in enumerate(shapes)
    ]


@pytest.fixture
def history():
    return History(slots((2, 3), (4,)), 2, np.float32)


def test_first_quantity_of_all_then_second_of_all(history):
    assert history.shapes == [(2, 3), (4,), (2, 3), (4,)]
    history.load([np.full(s, i) for i, s in enumerate(history.shapes)])
    assert [float(a[0]) for a in history.of(0)] == [0, 2]
    assert [float(a[0]) for a in history.of(1)] == [1, 3]
    assert [a.size for a in history.of(0)] == [6, 6]


def test_arrays_are_live_zero_and_typed(history):
    assert history.is_zero(0)
    history.of(0)[1][5] = 8
    assert history.shaped()[2][1, 2] == 8
    assert not history.is_zero(0)
    assert history.is_zero(1)
    assert history.of(0)[0].dtype == np.float32


def test_wrong_number_says_both_numbers(history):
    with pytest.raises(SnapshotError, match=r"x: it holds 1 .* needs 4: .*solver type"):
        history.check([np.zeros((2, 3))], "x")


def test_all_misfits_are_listed(history):
    arrays = [np.zeros(s) for s in [(3, 2), (4,), (2, 3), (5,)]]
    with pytest.raises(SnapshotError) as caught:
        history.check(arrays, "x")
    said = str(caught.value)
    assert "2 history blob(s)" in said
    assert "history 0 (layer0/0): the solver has (2, 3), the file (3, 2)" in said
    assert "history 3 (layer1/0): the solver has (4,), the file (5,)" in said


def test_four_axes_of_old_files_fit(history):
    old = [(1, 1, 2, 3), (1, 1, 1, 4), (1, 1, 2, 3), (1, 1, 1, 4)]
    arrays = [np.ones(s) for s in old]
    history.check(arrays, "x")
    history.load(arrays)
    assert history.shaped()[0].tolist() == [[1, 1, 1]] * 2


def test_a_device_holds_only_what_its_kernels_use():
    """Servers keep histories on the host, and a snapshot restores them on all ranks."""
    memory = gpu_ops().memory
    history = History(slots((2, 3), (4,)), 2, np.float32, memory)
    before = memory.allocations
    history.load([np.full(s, i + 1) for i, s in enumerate(history.shapes)])
    history.keep_on_host(1)
    assert history.host_of(1)[1].tolist() == [4] * 4
    assert [float(a.max()) for a in history.shaped()] == [1, 2, 3, 4]
    assert memory.allocations == before
    arrays = history.of(0)
    assert memory.allocations == before + 2
    for array, value in zip(arrays, (1, 3), strict=True):
        found = np.empty(6, np.float32)
        memory.download(array, found)
        assert found.tolist() == [value] * 6
    history.keep_on_host(0)
    assert [a.tolist() for a in history.host_of(0)] == [[1] * 6, [3] * 6]
