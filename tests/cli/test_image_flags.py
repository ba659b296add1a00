from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.cli.flags import parse
from poseidon_caffe.cli.image_flags import (
    IMAGE_FLAGS,
    given_number,
    load_array,
    mean_of,
)
from poseidon_caffe.errors import DataError, UsageError


def test_numbers_count_only_when_written():
    assert given_number(parse([], IMAGE_FLAGS), "input_scale") is None
    args = parse(["--input_scale=1"], IMAGE_FLAGS)
    assert given_number(args, "input_scale") == 1.0


def test_means(tmp_path):
    assert mean_of(parse(["--mean_file="], IMAGE_FLAGS)) is None
    with pytest.raises(UsageError, match="compute_image_mean"):
        mean_of(parse(["--mean_file=none.npy"], IMAGE_FLAGS))
    np.save(tmp_path / "mean.npy", np.ones(3))
    args = parse([f"--mean_file={tmp_path / 'mean.npy'}"], IMAGE_FLAGS)
    np.testing.assert_array_equal(mean_of(args), np.ones(3))


def test_arrays(tmp_path):
    np.savez(tmp_path / "several.npz", a=np.ones(3))
    (tmp_path / "text.npy").write_text("no array")
    np.save(tmp_path / "words.npy", np.array(["a"]))
    for name in ("several.npz", "text.npy", "words.npy", "none.npy"):
        with pytest.raises(DataError, match=name):
            load_array(str(tmp_path / name))
