from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.cli.flags import parse
from poseidon_caffe.cli.image_flags import (
    IMAGE_FLAGS,
    given_number,
    load_array,
    mean_of,
    mode_of,
)
from poseidon_caffe.cli.logged_notes import LoggedNotes
from poseidon_caffe.errors import DataError, UsageError
from poseidon_caffe.report.glog import Glog


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


@pytest.mark.parametrize(("words", "hint"), [([], False), (["--gpu=0"], True)])
def test_a_gpu_number_is_told_to_mean_the_cpu(words, hint, capfd):
    notes = LoggedNotes(Glog(), "classify.py:1")
    with mode_of(parse(words, IMAGE_FLAGS), notes):
        pass
    told = capfd.readouterr().err
    assert "CPU mode" in told
    assert ("takes no number" in told) is hint
