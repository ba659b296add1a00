from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time

import pytest

from poseidon_caffe.errors import SnapshotError
from poseidon_caffe.schema.atomic import atomic_path, atomic_write, remove_leftovers


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_writes_bytes_and_pieces(tmp_path):
    atomic_write(tmp_path / "a", b"one")
    assert (tmp_path / "a").read_bytes() == b"one"
    atomic_write(str(tmp_path / "a"), iter([b"t", memoryview(b"wo")]))
    assert (tmp_path / "a").read_bytes() == b"two"
    assert _names(tmp_path) == ["a"]


def test_permissions_follow_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        atomic_write(tmp_path / "a", b"")
    finally:
        os.umask(old)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_failure_leaves_the_old_file(tmp_path, error):
    atomic_write(tmp_path / "a", b"old")

    def pieces():
        yield b"new"
        raise error("halfway")

    expected = SnapshotError if error is OSError else error
    with pytest.raises(expected, match="halfway"):
        atomic_write(tmp_path / "a", pieces())
    assert (tmp_path / "a").read_bytes() == b"old"
    assert _names(tmp_path) == ["a"]


def test_full_disk(tmp_path):
    """A limit on file sizes stands for the full disk: write() fails halfway."""
    atomic_write(tmp_path / "a", b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(SnapshotError, match=r"not written: File too large"):
            atomic_write(tmp_path / "a", [b"x" * 6_000] * 3, wanted_bytes=18_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert (tmp_path / "a").read_bytes() == b"old"
    assert _names(tmp_path) == ["a"]


def test_no_space_says_how_much_is_wanted(tmp_path):
    with (
        pytest.raises(
            SnapshotError, match=r"No space.* needs 5000 bytes, \d+ are free"
        ),
        atomic_path(tmp_path / "a", wanted_bytes=5000),
        open("/dev/full", "wb", buffering=0) as full,  # noqa: PTH123
    ):
        full.write(b"x")


def test_temporary_path_becomes_the_file(tmp_path):
    with atomic_path(tmp_path / "a") as temporary:
        assert temporary.parent == tmp_path
        temporary.write_bytes(b"x")
        assert not (tmp_path / "a").exists()
    assert _names(tmp_path) == ["a"]


def test_block_that_writes_nothing(tmp_path):
    with pytest.raises(SnapshotError), atomic_path(tmp_path / "a"):
        pass


def test_links_are_followed(tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    atomic_write(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


def test_longest_name(tmp_path):
    atomic_write(tmp_path / ("ä" * 127), b"x")
    assert _names(tmp_path) == ["ä" * 127]


def test_relative_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    atomic_write("a", b"x")
    assert _names(tmp_path) == ["a"]


def test_missing_folder_and_directory_in_the_way(tmp_path):
    with pytest.raises(SnapshotError, match="make the folder"):
        atomic_write(tmp_path / "nowhere" / "a", b"x")
    (tmp_path / "d").mkdir()
    with pytest.raises(SnapshotError, match="d: not written: Is a directory"):
        atomic_write(tmp_path / "d", b"x")
    assert _names(tmp_path) == ["d"]


def test_killed_while_writing(tmp_path):
    """SIGKILL leaves the old file and a leftover, which the next run removes."""
    atomic_write(tmp_path / "snap_iter_1", b"old")
    (tmp_path / ".snap.tmp").touch()
    (tmp_path / ".other_iter_1.12.0123abcd.tmp").touch()
    program = """
import sys, time
from poseidon_caffe.schema.atomic import atomic_path
with atomic_path(sys.argv[1]) as path:
    path.write_bytes(b"new")
    print("ready", flush=True)
    time.sleep(60)
"""
    command = [sys.executable, "-c", program, str(tmp_path / "snap_iter_1")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        process.kill()
    assert (tmp_path / "snap_iter_1").read_bytes() == b"old"
    (left,) = remove_leftovers(tmp_path / "snap")
    assert left.name.startswith(".snap_iter_1.")
    assert _names(tmp_path) == [
        ".other_iter_1.12.0123abcd.tmp",
        ".snap.tmp",
        "snap_iter_1",
    ]
    assert remove_leftovers(tmp_path / "nowhere" / "snap") == []


def test_readers_never_see_a_part(tmp_path):
    path = tmp_path / "a"
    atomic_write(path, b"0" * 100_000)
    program = """
import sys
from poseidon_caffe.schema.atomic import atomic_write
for i in range(200):
    atomic_write(sys.argv[1], [str(i % 10).encode() * 1000] * 100)
"""
    with subprocess.Popen([sys.executable, "-c", program, str(path)]) as process:
        while process.poll() is None:
            data = path.read_bytes()
            assert len(data) == 100_000
            assert len(set(data)) == 1
            time.sleep(0.001)
    assert process.returncode == 0
