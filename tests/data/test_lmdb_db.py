from __future__ import annotations

import hashlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from poseidon_caffe.data.db import create_db, open_db
from poseidon_caffe.errors import DataError

# A lent GPU machine may lack it.
lmdb = pytest.importorskip("lmdb")
lmdb_db = pytest.importorskip("poseidon_caffe.data.lmdb_db")
LmdbDatabase, LmdbWriter = lmdb_db.LmdbDatabase, lmdb_db.LmdbWriter


@pytest.fixture
def made(tmp_path):
    with create_db(str(tmp_path / "db")) as writer:
        for i in range(500):
            writer.put(b"%08d" % i, b"v" * 900)
    return tmp_path / "db"


def test_reads_what_caffe_wrote(golden):
    database = open_db(str(golden / "data" / "raw_lmdb"), "LMDB")
    assert len(database) == 13
    assert database.key(12) == b"00000012_img_12.png"
    database.close()


def test_a_single_file_without_its_folder(made):
    database = LmdbDatabase(str(made / "data.mdb"))
    assert len(database) == 500
    database.close()


def test_reading_leaves_no_trace(made):
    before = sorted(made.iterdir())
    open_db(str(made)).close()
    assert sorted(made.iterdir()) == before == [made / "data.mdb"]


def test_the_plain_binding_reads_it(made):
    with lmdb.open(str(made), readonly=True, lock=False) as environment:
        with environment.begin() as transaction:
            assert transaction.get(b"00000499") == b"v" * 900
        assert environment.stat()["entries"] == 500


def test_the_map_grows_and_the_file_stays_small(tmp_path):
    # More than the first map holds, and a record larger than a whole batch.
    big = 40 << 20
    with LmdbWriter(str(tmp_path / "db")) as writer:
        writer.put(b"a", b"x" * big)
        writer.put(b"b", b"y" * big)
    size = (tmp_path / "db" / "data.mdb").stat().st_size
    assert 2 * big < size < 2 * big + (1 << 20)
    database = open_db(str(tmp_path / "db"))
    assert database.record(1) == b"y" * big
    database.close()


@pytest.mark.parametrize("keep", [0.999, 0.5, 0.05])
def test_truncated(made, keep):
    file = made / "data.mdb"
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * keep)])
    for _ in range(2):
        with pytest.raises(DataError, match=r"data\.mdb is truncated"):
            open_db(str(made))


def test_garbage(made):
    (made / "data.mdb").write_bytes(b"certainly no pages" * 1000)
    with pytest.raises(DataError, match="not a readable LMDB"):
        open_db(str(made))


def test_an_empty_file(made):
    (made / "data.mdb").write_bytes(b"")
    with pytest.raises(DataError, match=r"data\.mdb is empty"):
        open_db(str(made))


def test_damaged_pages(made):
    """Pages overwritten inside the file are an error, never wrong records."""
    content = bytearray((made / "data.mdb").read_bytes())
    content[8192:] = b"\0" * (len(content) - 8192)
    (made / "data.mdb").write_bytes(content)
    with pytest.raises(DataError, match=r"damaged|cannot be reached|empty"):
        open_db(str(made)).record(499)


def test_open_elsewhere_in_this_process(made):
    with (
        lmdb.open(str(made), readonly=True, lock=False),
        pytest.raises(DataError, match=r"lmdb\.open"),
    ):
        open_db(str(made))
    open_db(str(made)).close()


def test_a_leveldb_is_told_from_an_lmdb(golden):
    with pytest.raises(DataError, match="backend: LEVELDB"):
        open_db(str(golden / "data" / "gray_leveldb"), "LMDB")


def test_several_threads_each_with_a_reader_of_its_own(golden):
    source = str(golden / "data" / "raw_lmdb")
    reference = open_db(source)
    expected = [reference.record(i) for i in range(len(reference))]

    def read_all(start: int) -> bool:
        database = open_db(source)
        try:
            order = [(start + i) % len(expected) for i in range(3 * len(expected))]
            return all(database.record(i) == expected[i] for i in order)
        finally:
            database.close()

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read_all, range(40)))
    assert reference.record(3) == expected[3]
    reference.close()


def test_several_processes_read_at_once(golden, tmp_path):
    source = str(golden / "data" / "raw_lmdb")
    code = (
        "import sys, hashlib\n"
        "from poseidon_caffe.data.db import open_db\n"
        "d = open_db(sys.argv[1])\n"
        "print('open', flush=True)\n"
        "sys.stdin.readline()\n"  # until all have it open
        "h = hashlib.sha256()\n"
        "for i in range(3 * len(d)): h.update(d.record(i % len(d)))\n"
        "print(h.hexdigest())\n"
    )
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", code, source],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for reader in readers:
        assert reader.stdout.readline() == "open\n"
    answers = {reader.communicate("go\n", timeout=60)[0] for reader in readers}
    assert [reader.returncode for reader in readers] == [0, 0, 0]
    database = open_db(source)
    records = [database.record(i) for i in range(len(database))]
    database.close()
    assert answers == {hashlib.sha256(b"".join(3 * records)).hexdigest() + "\n"}
    # Readers leave no lock file behind: the data may lie on a read-only disk.
    assert {p.name for p in (golden / "data" / "raw_lmdb").iterdir()} <= {
        "data.mdb",
        "lock.mdb",
    }
