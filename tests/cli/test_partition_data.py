from __future__ import annotations

import shutil

import pytest

from poseidon_caffe.cli.main import run
from poseidon_caffe.data.db import open_db


@pytest.fixture
def source(golden, tmp_path):
    return str(shutil.copytree(golden / "data" / "raw_lmdb", tmp_path / "raw_lmdb"))


def sizes(*paths):
    found = []
    for path in paths:
        database = open_db(path)
        found.append(len(database))
        database.close()
    return found


def test_by_a_word_and_by_the_original_flag(source, tmp_path, capsys):
    assert run(["partition_data", source, "3"]) == 0
    assert sizes(*(f"{source}_{i}" for i in range(3))) == [5, 4, 4]
    assert "Processed 13 files." in capsys.readouterr().err
    prefix = str(tmp_path / "part")
    assert run(["partition_data", source, "4", prefix]) == 0
    assert sizes(f"{prefix}_3") == [3]
    for i in range(3):
        shutil.rmtree(f"{source}_{i}")
    assert run(["partition_data", "--backend=lmdb", source]) == 0
    assert sizes(f"{source}_0", f"{source}_1") == [7, 6]
    assert run(["partition_data", "-num_partitions", "13", source]) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["0"], "N: expected 1 or more, received '0'"),
        (["x"], "N: expected 1 or more, received 'x'"),
        (["2", "--num_partitions=3"], "N is 2, but --num_partitions is 3"),
        (["99"], "13 records cannot be cut into 99 parts"),
    ],
)
def test_failures_are_one_line(words, message, source, tmp_path, capsys):
    assert run(["partition_data", source, *words]) == 1
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["raw_lmdb"]
