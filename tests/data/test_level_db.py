from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys

import pytest

from poseidon_caffe.data.datum import decode, parse_datum
from poseidon_caffe.data.db import create_db, open_db
from poseidon_caffe.errors import DataError

needs_plyvel = pytest.mark.skipif(
    importlib.util.find_spec("plyvel") is None, reason="plyvel not installed"
)


@pytest.fixture
def copied(golden, tmp_path):
    return shutil.copytree(golden / "data" / "gray_leveldb", tmp_path / "gray_leveldb")


@pytest.fixture(params=["plyvel", "own reader"])
def reader(request, monkeypatch):
    """Each test is run with the binding, if there is one, and without it."""
    if request.param == "own reader":
        monkeypatch.setitem(sys.modules, "plyvel", None)
    elif importlib.util.find_spec("plyvel") is None:
        pytest.skip("plyvel not installed")


@pytest.mark.usefixtures("reader")
def test_reads_what_caffe_wrote(copied):
    database = open_db(str(copied), "LEVELDB")
    assert len(database) == 13
    assert database.key(12) == b"00000012_img_12.png"
    assert decode(parse_datum(database.record(3))).shape == (1, 20, 24)
    database.close()


@pytest.mark.usefixtures("reader")
def test_damaged(copied):
    (copied / "MANIFEST-000004").write_bytes(b"nonsense that goes on for a while")
    for _ in range(2):
        with pytest.raises(DataError, match=r"gray_leveldb: .*(be opened|empty)"):
            open_db(str(copied), "LEVELDB")


@pytest.mark.usefixtures("reader")
def test_a_damaged_table(copied):
    table = copied / "000005.ldb"
    table.write_bytes(b"x" * table.stat().st_size)
    for _ in range(2):
        with pytest.raises(DataError, match=r"gray_leveldb: .*(damaged|empty)"):
            open_db(str(copied), "LEVELDB")


@pytest.mark.usefixtures("reader")
def test_a_missing_table(copied):
    (copied / "000005.ldb").unlink()
    with pytest.raises(DataError, match=r"gray_leveldb: .*damaged"):
        open_db(str(copied), "LEVELDB")


def test_an_lmdb_is_told_from_a_leveldb(golden):
    with pytest.raises(DataError, match="write `backend: LMDB`"):
        open_db(str(golden / "data" / "raw_lmdb"), "LEVELDB")


@pytest.mark.usefixtures("reader")
def test_a_failed_writing_leaves_nothing(tmp_path):
    def write():
        with create_db(str(tmp_path / "db"), "leveldb") as writer:
            writer.put(b"a", b"b")
            raise KeyError

    with pytest.raises(KeyError):
        write()
    assert not list(tmp_path.iterdir())


@needs_plyvel
def test_several_processes_read_at_once(copied):
    code = (
        "import sys\n"
        "from poseidon_caffe.data.db import open_db\n"
        "d = open_db(sys.argv[1], 'leveldb')\n"
        "print('open', flush=True)\n"
        "sys.stdin.readline()\n"  # until all have it open
        "print(sum(len(d.record(i)) for i in range(len(d))))\n"
    )
    command = [sys.executable, "-c", code, str(copied)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    readers = [subprocess.Popen(command, **pipes) for _ in range(2)]
    for process in readers:
        assert process.stdout.readline() == "open\n"
    database = open_db(str(copied), "leveldb")
    total = sum(len(database.record(i)) for i in range(len(database)))
    database.close()
    # Whoever has the lock, the others read without it.
    answers = [process.communicate("go\n", timeout=60)[0] for process in readers]
    assert answers == [f"{total}\n"] * 2
