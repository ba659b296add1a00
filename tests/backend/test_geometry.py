from __future__ import annotations

import pytest

from poseidon_caffe.backend.geometry import ColumnGeometry, ConvGeometry, conv_output


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pad", "dilation"),
    [
        (227, 11, 4, 0, 1),
        (28, 5, 1, 0, 1),
        (7, 3, 2, 1, 1),
        (9, 3, 1, 2, 2),
        (5, 1, 2, 0, 1),
    ],
)
def test_output_length_counts_the_windows_that_fit(size, kernel, stride, pad, dilation):
    last = size + 2 * pad - dilation * (kernel - 1)
    windows = len(range(0, last, stride))
    assert conv_output(size, kernel, stride, pad, dilation) == windows


def test_a_window_may_stick_out_by_less_than_a_stride():
    """C++ rounds towards 0: (3 - 4) / 2 is 0, (3 - 5) / 2 is -1."""
    assert [conv_output(3, k, 2, 0, 1) for k in (3, 4, 5)] == [1, 1, 0]
    assert ColumnGeometry((4,), (2,), (0,), (1,)).overhangs((3,))
    assert not ColumnGeometry((4,), (2,), (0,), (1,)).overhangs((5,))
    assert ColumnGeometry((4,), (2,), (1,), (1,)).overhangs((5,))


def test_conv_shapes():
    g = ConvGeometry((2, 6, 9, 8), 4, (3, 1), (2, 1), (1, 0), (2, 1), group=2)
    assert g.y_shape == (2, 4, 4, 8)
    assert g.w_shape == (4, 3, 3, 1)
    volume = ConvGeometry((1, 2, 5, 6, 7), 3, (2,) * 3, (1,) * 3, (0,) * 3, (1,) * 3)
    assert volume.y_shape == (1, 3, 4, 5, 6)
    assert volume.w_shape == (3, 2, 2, 2, 2)


def test_columns_count_their_windows():
    g = ColumnGeometry((3, 2), (2, 1), (1, 0), (1, 3))
    assert g.spatial((7, 9)) == (4, 6)
