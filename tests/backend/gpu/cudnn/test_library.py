"""Finding and loading cuDNN's library, and what is declared of it."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from poseidon_caffe.backend.gpu.cudnn.library import (
    SIGNATURES,
    AlgorithmTime,
    Library,
    open_library,
)
from poseidon_caffe.errors import BackendError


def test_a_missing_library_says_what_was_tried(monkeypatch, tmp_path):
    missing = tmp_path / "libcudnn.so.9"
    monkeypatch.setenv("POSEIDON_CUDNN_LIBRARY", str(missing))
    with pytest.raises(BackendError) as caught:
        open_library()
    message = str(caught.value)
    assert "no cuDNN 9 library (libcudnn.so.9) can be loaded" in message
    assert "pip install nvidia-cudnn-cu13" in message
    assert str(missing) in message


@pytest.mark.parametrize("number", [8907, 100_000])
def test_another_version_is_refused(monkeypatch, tmp_path, number):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    source, wrong = tmp_path / "lib.c", tmp_path / "libcudnn.so.9"
    source.write_text(f"unsigned long cudnnGetVersion(void) {{ return {number}; }}")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", wrong, source], check=True)
    monkeypatch.setenv("POSEIDON_CUDNN_LIBRARY", str(wrong))
    with pytest.raises(
        BackendError, match=f"version number {number} is not of cuDNN 9"
    ):
        open_library()


def test_records_have_the_headers_size():
    assert ctypes.sizeof(AlgorithmTime) == 48
    assert AlgorithmTime.memory.offset == 16
    assert AlgorithmTime.math_type.offset == 28


def test_numbers_for_the_library():
    assert list(Library.ints((1, 2))) == [1, 2]
    assert list(Library.longs((1 << 40,))) == [1 << 40]
    assert Library.pointers((None, 5))[0] is None
    assert Library.reals([0.5], double=False)._type_ is ctypes.c_float
    assert Library.reals([0.5], double=True)._type_ is ctypes.c_double
    assert list(Library.booleans([True, False])) == [True, False]
    assert Library.text("ab").value == b"ab"
    assert len(Library.text(10)) == 10
    assert len(Library.algorithm_times(3)) == 3


def test_the_real_library_answers(library):
    assert library.version[0] == 9
    address = library.create("cudnnCreateTensorDescriptor")
    assert address
    with pytest.raises(BackendError) as caught:
        library.call(
            "cudnnSetTensorNdDescriptor", address, 0, 4, library.ints([1, -1, 1, 1]),
            library.ints([1, 1, 1, 1]),
        )  # fmt: skip
    assert "cudnnSetTensorNdDescriptor failed: CUDNN_STATUS_BAD_PARAM" in str(
        caught.value
    )
    assert library.attempt("cudnnDestroyTensorDescriptor", address) == 0


def _letter(argument):
    """What `SIGNATURES` says for a C declaration of an argument."""
    if "*" in argument or "[" in argument:
        return "p"
    kind = argument.replace("const", "").split()[0]
    if kind.endswith(("Descriptor_t", "Handle_t", "Stream_t")):
        return "p"
    return {"unsigned": "u", "size_t": "z", "int64_t": "l", "double": "d"}.get(
        kind, "i"
    )


def test_signatures_are_the_headers(library):
    folder = Path(library.path).resolve().parent.parent / "include"
    files = [folder / f"cudnn_{name}.h" for name in ("graph", "ops", "cnn")]
    if not all(file.exists() for file in files):
        pytest.skip(f"no headers in {folder}")
    text = "".join(file.read_text() for file in files)
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.DOTALL)
    for name, letters in SIGNATURES.items():
        found = re.search(rf"\b{name}\s*\(([^;]*)\)\s*;", text)
        assert found, name
        arguments = [a.strip() for a in found[1].split(",")]
        wanted = "".join(_letter(a) for a in arguments if a != "void")
        assert letters == wanted, name
