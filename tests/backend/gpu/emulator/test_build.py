"""What g++ makes is whole, named by all that it is made of, and kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from poseidon_caffe.backend.gpu.emulator.build import (
    cache_folder,
    digest,
    make_library,
    user_cache,
)
from poseidon_caffe.errors import BackendError


def test_the_cache_is_the_users(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache() == tmp_path / "poseidon" / "emulator"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_cache() == tmp_path / ".cache" / "poseidon" / "emulator"


def test_a_cache_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BackendError, match="XDG_CACHE_HOME may name another"):
        cache_folder(tmp_path / "file" / "folder")


def test_a_digest_tells_flags_and_contents_apart(tmp_path: Path) -> None:
    path = tmp_path / "source"
    path.write_text("one")
    first = digest(["-O2"], [path])
    assert digest(["-O2"], [path]) == first
    assert digest(["-O1"], [path]) != first
    path.write_text("two")
    assert digest(["-O2"], [path]) != first


def test_a_failed_compilation_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"nothing\.so"):
        make_library("int f() { return nowhere; }", ["-fPIC"], tmp_path / "nothing.so")
    assert list(tmp_path.iterdir()) == []
