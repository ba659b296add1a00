"""What the GPU's columns do besides what every backend does."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.geometry import ColumnGeometry
from poseidon_caffe.backend.gpu.columns import axis_arguments
from poseidon_caffe.errors import BackendError
from tests.backend.gpu.storage import BFLOAT, FLOAT, HALF, assert_near, here, there
from tests.devices import gpu_ops

G = ColumnGeometry((2, 2), (1, 1), (0, 0), (1, 1))


def windows(x):
    """(N, C, 2, 2, H - 1, W - 1)."""
    slid = np.lib.stride_tricks.sliding_window_view(x, (2, 2), axis=(2, 3))
    return slid.transpose(0, 1, 4, 5, 2, 3)


@pytest.mark.parametrize("storage", [FLOAT, HALF, BFLOAT], ids=["float", "half", "bf"])
@pytest.mark.parametrize("last", [False, True])
def test_16_bits(storage, last):
    x = np.random.default_rng(1).integers(-4, 4, (2, 3, 4, 5)).astype(float)
    columns = there(np.full((2, 3, 2, 2, 3, 4), np.nan), storage)
    gpu_ops().im2col(there(x, storage, channels_last=last), columns, G)
    assert np.array_equal(here(columns), windows(x))
    dx = there(np.full(x.shape, np.nan), storage, channels_last=last)
    gpu_ops().col2im(columns, dx, G)
    counts = here(dx) / np.where(x == 0, 1, x)
    assert set(counts[x != 0]) <= {1, 2, 4}  # windows that an element is in
    assert (here(dx)[x == 0] == 0).all()


def test_columns_with_gaps_go_through_a_copy():
    x = np.random.default_rng(2).standard_normal((2, 3, 4, 5))
    whole = there(np.full((2, 3, 2, 2, 3, 6), 7.0))
    part = whole[..., :4]
    gpu_ops().im2col(there(x), part, G)
    assert_near(part, windows(x), FLOAT)
    assert (here(whole)[..., 4:] == 7).all()
    dx, want = there(np.full(x.shape, np.nan)), there(np.full(x.shape, np.nan))
    gpu_ops().col2im(part, dx, G)
    gpu_ops().col2im(there(windows(x)), want, G)
    assert np.array_equal(here(dx), here(want))


def test_arguments_of_missing_axes_are_neutral():
    one = ColumnGeometry((3,), (2,), (1,), (1,))
    axes, rows = axis_arguments(one, (9,), (5,), 1)
    assert (axes, rows) == (2, [1, 1, 0, 1, 1, 1, 0, 3, 2, 1, 1, 9, 5, 1])


def test_steps_grow_from_the_last_axis_on():
    _, rows = axis_arguments(G, (4, 5), (3, 4), 3)
    assert (rows[6], rows[13]) == (15, 3)


def test_more_than_six_axes_are_refused():
    seven = (1,) * 7
    with pytest.raises(BackendError, match="7 spatial axes"):
        axis_arguments(ColumnGeometry(seven, seven, (0,) * 7, seven), seven, seven, 1)
