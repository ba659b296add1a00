from __future__ import annotations

import pytest

from poseidon_caffe.data.handles import SharedHandles


class Handle:
    def __init__(self, path):
        self.path, self.closed = path, False

    def close(self):
        assert not self.closed
        self.closed = True


def test_one_handle_for_all_users_until_the_last_leaves(tmp_path):
    shared = SharedHandles()
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    first = shared.acquire(tmp_path, Handle)
    assert shared.acquire(link, Handle) is first
    shared.release(link)
    assert not first.closed
    shared.release(tmp_path)
    assert first.closed
    assert shared.acquire(tmp_path, Handle) is not first


def test_a_failed_opening_leaves_nothing(tmp_path):
    shared = SharedHandles()

    def fail(path):
        raise OSError(str(path))

    with pytest.raises(OSError, match=tmp_path.name):
        shared.acquire(tmp_path, fail)
    assert shared.acquire(tmp_path, Handle).path == tmp_path
