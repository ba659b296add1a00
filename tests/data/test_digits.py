from __future__ import annotations

import shutil
import subprocess
import sys

import numpy as np
import pytest

from poseidon_caffe.data import digits
from poseidon_caffe.data.datum import decode, parse_datum
from poseidon_caffe.data.db import create_db, open_db
from poseidon_caffe.errors import DataError


def read(path):
    database = open_db(str(path))
    records = [parse_datum(database.record(i)) for i in range(len(database))]
    database.close()
    return np.stack([decode(r) for r in records]), [r.label for r in records]


def test_all_digits_are_there_once():
    train, test = digits.load_digits()
    assert (len(train.labels), len(test.labels)) == (1437, 360)
    labels = np.concatenate([train.labels, test.labels])
    # The counts that UCI publishes for this set.
    counts = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert np.bincount(labels).tolist() == counts
    both = np.concatenate([train.images, test.images]).reshape(1797, -1)
    assert len(np.unique(both, axis=0)) == 1797
    assert np.bincount(test.labels).min() > 20


def test_they_look_like_mnist():
    train, _ = digits.load_digits()
    assert train.images.shape[1:] == (28, 28)
    assert train.images.dtype == np.uint8
    assert train.images.max() == 255
    border = train.images.copy()
    border[:, 4:-4, 4:-4] = 0
    assert not border.any()
    # Ink of a one stands in the middle columns, of a zero around a hole.
    mean = {d: train.images[train.labels == d].mean(axis=0) for d in (0, 1)}
    assert mean[0][14, 14] < 40 < mean[1][14, 14]


def test_databases_are_made_once(tmp_path):
    made = digits.build_digits(tmp_path / "a" / "b")
    assert [path.name for path in made] == ["digits_train_lmdb", "digits_test_lmdb"]
    train, test = digits.load_digits()
    for path, expected in zip(made, (train, test), strict=True):
        images, labels = read(path)
        np.testing.assert_array_equal(images[:, 0], expected.images)
        assert labels == expected.labels.tolist()
    stamp = (made[0] / "data.mdb").stat().st_mtime_ns
    assert digits.build_digits(tmp_path / "a" / "b") == []
    assert (made[0] / "data.mdb").stat().st_mtime_ns == stamp
    shutil.rmtree(made[1])
    assert digits.build_digits(tmp_path / "a" / "b") == [made[1]]


def test_something_else_by_that_name(tmp_path):
    with create_db(str(tmp_path / "digits_test_lmdb")) as writer:
        writer.put(b"a", b"b")
    with pytest.raises(DataError, match="holds 1 records"):
        digits.build_digits(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["digits_test_lmdb"]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be made"):
        digits.build_digits(tmp_path / "file")


def test_as_a_program(tmp_path, capsys, repo):
    program = [sys.executable, "-m", "poseidon_caffe.data.digits", str(tmp_path / "d")]
    subprocess.run(program, check=True, cwd=repo)
    assert len(list((tmp_path / "d").iterdir())) == 2
    assert digits.main([]) == 1
    (tmp_path / "file").write_text("")
    assert digits.main([str(tmp_path / "file")]) == 1
    assert "error: " in capsys.readouterr().err
