"""Real LMDBs, whole, cut short and damaged in their first pages."""

from __future__ import annotations

import random
import struct
import subprocess
import sys

import pytest

from poseidon_caffe.data.lmdb_header import check_lmdb
from poseidon_caffe.errors import DataError

# A lent GPU machine may lack it.
lmdb = pytest.importorskip("lmdb")

PAGE_BYTES = 4096
#: Where the numbers of a header's meta lie in its page.
MAGIC, VERSION, PAGES_OF, FREE_ROOT, ROOT, LAST_PAGE = 16, 20, 40, 80, 128, 136
READ_ALL = """
import sys
from poseidon_caffe.data.db import open_db
from poseidon_caffe.errors import DataError
for path in sys.argv[1:]:
    try:
        database = open_db(path)
        found = [database.record(i) for i in range(len(database))]
    except DataError as error:
        print(error)
    else:
        print(len(found), sum(map(sum, found)))
"""


def make(folder, *transactions, **settings):
    """An LMDB's only file."""
    with lmdb.open(str(folder), map_size=1 << 24, lock=False, **settings) as made:
        for work in transactions:
            with made.begin(write=True) as transaction:
                work(transaction)
    return folder / "data.mdb"


def put(first, last, size=700):
    def work(transaction):
        for i in range(first, last):
            transaction.put(b"%06d" % i, bytes([i % 251]) * size)

    return work


def churn(seed):
    """Puts and deletions, small and large."""
    draw = random.Random(seed)

    def work(transaction):
        for _ in range(60):
            key = b"%03d" % draw.randrange(40)
            if draw.random() < 0.45:
                transaction.delete(key)
            else:
                transaction.put(key, b"x" * draw.choice((10, 700, 5000, 30000)))

    return work


def needed_bytes(file):
    """What the newer header speaks of."""
    content = file.read_bytes()
    metas = [struct.unpack_from("<QQ", content, LAST_PAGE + k) for k in (0, PAGE_BYTES)]
    return (max(metas, key=lambda meta: meta[1])[0] + 1) * PAGE_BYTES


def read_all(*folders):
    """What a process says of them; its death is the caller's failure."""
    done = subprocess.run(
        [sys.executable, "-c", READ_ALL, *map(str, folders)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.splitlines()


def refused(file, message):
    with pytest.raises(DataError, match=message):
        check_lmdb(file, "db")


def change(file, at, form, *values):
    """Overwrite something in both headers."""
    content = bytearray(file.read_bytes())
    for page in (0, PAGE_BYTES):
        struct.pack_into(form, content, at + page, *values)
    file.write_bytes(content)


@pytest.mark.parametrize("count", [0, 1, 50, 3000])
def test_whole(tmp_path, count):
    check_lmdb(make(tmp_path / "db", put(0, count)), "db")


def test_longer_than_its_pages(tmp_path):
    file = make(tmp_path / "db", put(0, 9), writemap=True)
    check_lmdb(file, "db")
    with file.open("ab") as more:
        more.write(b"\0" * 12345)
    check_lmdb(file, "db")


def test_cut_anywhere_it_is_refused_or_whole(tmp_path):
    """By open_db, in a process that must not die."""
    content = make(tmp_path / "db", put(0, 300), put(100, 500)).read_bytes()
    whole = read_all(tmp_path / "db")
    assert whole[0].startswith("500 ")
    draw = random.Random(3)
    lengths = [len(content) - 1, len(content) - PAGE_BYTES, 2 * PAGE_BYTES, PAGE_BYTES]
    lengths += [
        4095,
        151,
        150,
        17,
        1,
        *(draw.randrange(len(content)) for _ in range(9)),
    ]
    folders = []
    for number, length in enumerate(lengths):
        folders.append(tmp_path / f"cut{number}")
        folders[-1].mkdir()
        (folders[-1] / "data.mdb").write_bytes(content[:length])
    for line in read_all(*folders):
        assert "data.mdb is truncated" in line or line == whole[0], line


def test_free_pages_at_the_end_may_be_missing(tmp_path):
    """A transaction that deletes what it wrote leaves a file shorter than it says."""
    short = []
    for seed in range(60):
        file = make(tmp_path / str(seed), *(churn(3 * seed + k) for k in range(3)))
        if file.stat().st_size < needed_bytes(file):
            short.append(file.parent)
            check_lmdb(file, "db")
            file.write_bytes(file.read_bytes()[: 5 * PAGE_BYTES])
            refused(file, "truncated")
    assert short, "these seeds make none"


def test_a_writer_may_go_on_meanwhile(tmp_path):
    file = make(tmp_path / "db", put(0, 10))
    with lmdb.open(str(file.parent), map_size=1 << 24, lock=False) as environment:
        for k in range(1, 20):
            with environment.begin(write=True) as transaction:
                put(10 * k, 10 * k + 10)(transaction)
                check_lmdb(file, "db")
            check_lmdb(file, "db")


def test_too_short_for_a_header(tmp_path):
    file = make(tmp_path / "db", put(0, 1))
    file.write_bytes(file.read_bytes()[:100])
    refused(file, r"^db: data\.mdb is truncated, 100 bytes where its header alone")
    file.write_bytes(b"")
    refused(file, "truncated, 0 bytes")


def test_another_version(tmp_path):
    file = make(tmp_path / "db", put(0, 1))
    change(file, VERSION, "<I", 999)
    refused(file, "has version 999 of LMDB's format.*make it again")


@pytest.mark.parametrize(
    ("at", "form", "machine"),
    [(12, "<I", "32-bit little"), (12, ">I", "32-bit big"), (16, ">I", "64-bit big")],
)
def test_another_machines(tmp_path, at, form, machine):
    file = tmp_path / "data.mdb"
    head = bytearray(8192)
    struct.pack_into(form, head, at, 0xBEEFC0DE)
    file.write_bytes(head)
    refused(file, f"written by a {machine}-endian machine.*mdb_dump")


def test_no_lmdb_at_all(tmp_path):
    file = tmp_path / "data.mdb"
    file.write_bytes(b"PNG or so " * 1000)
    refused(file, "not a readable LMDB, it does not begin like one")


def test_damaged_numbers(tmp_path):
    file = make(tmp_path / "db", put(0, 9))
    content = file.read_bytes()
    change(file, PAGES_OF, "<I", 12345)
    refused(file, r"pages of 12345 bytes")
    for at in (FREE_ROOT, ROOT):
        file.write_bytes(content)
        change(file, at, "<Q", 1 << 40)
        refused(file, "its header is damaged")
    file.write_bytes(content)
    change(file, LAST_PAGE, "<Q", 1 << 50)
    refused(file, f"truncated, {len(content)} bytes where")


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(OSError, match="nothing"):
        check_lmdb(tmp_path / "nothing", "db")
