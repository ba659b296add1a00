from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from poseidon_caffe.errors import ParseError
from poseidon_caffe.schema import binary, messages, wire
from poseidon_caffe.schema.mean import read_mean, write_mean

GOLDEN = Path(__file__).parents[1] / "golden/data/mean.binaryproto"


def test_same_bytes_as_caffes_tool(tmp_path):
    mean = read_mean(GOLDEN)
    assert mean.shape == (3, 20, 24)
    assert mean.dtype == np.float32
    assert 0 < mean.mean() < 255
    write_mean(tmp_path / "m", mean)
    assert (tmp_path / "m").read_bytes() == GOLDEN.read_bytes()


@pytest.mark.parametrize("shape", [(1, 3, 4, 5), (3, 4, 5)])
def test_new_shapes(tmp_path, shape):
    array = np.random.default_rng(0).random(shape)
    binary.write_binary(tmp_path / "m", wire.array_to_blob(array))
    mean = read_mean(tmp_path / "m")
    np.testing.assert_allclose(mean, array.reshape(3, 4, 5), rtol=1e-6)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (4, 5)])
def test_no_single_image(tmp_path, shape):
    binary.write_binary(tmp_path / "m", wire.array_to_blob(np.zeros(shape, np.float32)))
    with pytest.raises(ParseError, match=r"m: a mean image has shape \(1, C, H, W\)"):
        read_mean(tmp_path / "m")
    if len(shape) != 3:
        with pytest.raises(ValueError, match=r"\(C, H, W\)"):
            write_mean(tmp_path / "n", np.zeros(shape))


def test_damaged(tmp_path):
    blob = messages.BlobProto(num=1, channels=3, height=2, width=2, data=[1])
    binary.write_binary(tmp_path / "m", blob)
    with pytest.raises(ParseError, match=r"m: .*needs 12 values but holds 1"):
        read_mean(tmp_path / "m")
    with pytest.raises(ParseError, match="no such binary BlobProto"):
        read_mean(tmp_path / "nothing")
