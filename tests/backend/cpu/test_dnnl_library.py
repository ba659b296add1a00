from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from poseidon_caffe.backend.cpu.dnnl_library import (
    Alg,
    Owned,
    Prop,
    c_argument,
    dims,
    open_library,
)
from poseidon_caffe.errors import BackendError

ROOT = Path(__file__).resolve().parents[3]
TRAIN = """
import sys
from poseidon_caffe.backend.select import get_ops
from tests.net.support import SMALL, fill_inputs, gradients, make_net

ops = get_ops("cpu", threads=1)
print(ops.name, ops.note)
net = make_net(SMALL, fuse=True, share_memory=True)
assert net.ops.name == "numpy", net.ops.name
fill_inputs(net)
first = gradients(net)[0]
for _ in range(20):
    loss, _ = gradients(net)
    for blob in net.learnable:
        blob.data[...] -= 0.05 * blob.diff
        blob.touch()
print(first, loss, file=sys.stderr)
assert loss < 0.5 * first
"""


def run(code, library):
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "POSEIDON_DNNL_LIBRARY": str(library),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_wrong_library_falls_back_to_numpy_which_trains(tmp_path):
    wrong = tmp_path / "no such" / "libdnnl.so.3"
    done = run(TRAIN, wrong)
    assert done.returncode == 0, done.stderr
    name, note = done.stdout.split(" ", 1)
    assert name == "numpy"
    assert str(wrong) in note
    assert "oneDNN cannot be used" in note
    assert "pip install onednn-cpu-gomp" in note
    assert "several times slower" in note


def compiled(folder, source):
    """A small shared library; skips where there is no compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    (folder / "lib.c").write_text(source)
    library = folder / "libdnnl.so.3"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", library, folder / "lib.c"], check=True
    )
    return library


def version_source(*version):
    numbers = ", ".join(map(str, version))
    return (
        f"static int version[] = {{{numbers}}};\n"
        "const int *dnnl_version(void) { return version; }\n"
    )


def refusal(monkeypatch, library):
    monkeypatch.setenv("POSEIDON_DNNL_LIBRARY", str(library))
    with pytest.raises(BackendError) as caught:
        open_library()
    assert str(library) in str(caught.value)
    return str(caught.value)


def test_a_file_that_is_no_library(monkeypatch, tmp_path):
    library = tmp_path / "libdnnl.so.3"
    library.write_text("not a library")
    assert "can be loaded" in refusal(monkeypatch, library)


def test_another_library(monkeypatch, tmp_path):
    library = compiled(tmp_path, "int other(void) { return 1; }")
    assert "dnnl_version" in refusal(monkeypatch, library)


def test_a_library_that_is_too_old(monkeypatch, tmp_path):
    library = compiled(tmp_path, version_source(2, 7, 5))
    text = refusal(monkeypatch, library)
    assert "version (2, 7, 5) is older than (3, 0)" in text


def test_a_library_that_lacks_functions(monkeypatch, tmp_path):
    library = compiled(tmp_path, version_source(3, 99, 0))
    assert "undefined symbol: dnnl_" in refusal(monkeypatch, library)


def test_the_newest_that_works_is_taken(monkeypatch, ops, tmp_path):
    """One that is newer by name but lacks functions stands beside it."""
    folder = tmp_path / "lib"
    folder.mkdir()
    compiled(folder, version_source(3, 99, 0))
    monkeypatch.delenv("POSEIDON_DNNL_LIBRARY", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    found = open_library()
    assert found.version[:2] >= (3, 0)
    assert found.version != (3, 99, 0)
    assert Path(found.path).name.startswith("libdnnl")


def test_the_override_is_taken(monkeypatch, ops):
    monkeypatch.setenv("POSEIDON_DNNL_LIBRARY", ops.dnnl.path)
    found = open_library()
    assert (found.path, found.version) == (ops.dnnl.path, ops.dnnl.version)


def test_arguments_as_c_wants_them():
    assert c_argument(None) is None
    assert c_argument(7) == 7
    assert isinstance(c_argument(0.5), ctypes.c_float)
    assert isinstance(c_argument(np.int64(1 << 40)), ctypes.c_int64)
    assert c_argument(np.int64(1 << 40)).value == 1 << 40
    assert isinstance(c_argument(Alg.MUL), ctypes.c_int)
    assert c_argument(Prop.TRAINING).value == 64
    assert list(c_argument((3, 4)))[:3] == [3, 4, 0]
    assert c_argument(Owned(5, None)).value == 5
    assert len(dims((1, 2))) == 12


def test_objects_are_destroyed_with_their_owner():
    destroyed = []
    for handle in (3, None, 0):
        Owned(handle, destroyed.append)
    assert destroyed == [3]
