"""Every CUDA source compiles for every processor and storage type, with no GPU.

NVRTC 13 begins at sm_75; sm_70 is compiled with CUDA 12's.  Both wheels are
development requirements: nvidia-cuda-nvrtc and nvidia-cuda-nvrtc-cu12.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

import pytest

import poseidon_caffe.backend.gpu
from poseidon_caffe.backend.gpu.classes import _MANY_THREADS
from poseidon_caffe.backend.gpu.launcher import THREADS
from poseidon_caffe.backend.gpu.nvrtc import Nvrtc, compile_nvrtc, find_nvrtc
from poseidon_caffe.errors import BackendError
from tests.backend.gpu.cubin import registers
from tests.devices import ON_CUDA

KERNELS = Path(poseidon_caffe.backend.gpu.__file__).parent / "kernels"
SOURCES = sorted(path.name for path in KERNELS.glob("*.cu"))
STORAGES = ("float", "double", "half16", "bfloat16")
EM_CUDA = 190
"""The number of NVIDIA's processors among the machines of ELF."""
REGISTERS = 65_536
"""What the threads of a block share, on every processor; it cannot start with less."""

# What CI compiles: every storage type and every processor once; `make test-slow` all
# of them with each other.
USUAL = (
    (13, 75, "half16"),
    (13, 80, "double"),
    (13, 90, "bfloat16"),
    (12, 70, "float"),
)
ALL = [
    (major, arch, storage)
    for major, archs in ((13, (75, 80, 90)), (12, (70, 75, 80, 90)))
    for arch in archs
    for storage in STORAGES
]


def _missing(what: str) -> NoReturn:
    """Both are development requirements: only a lent GPU's machine may lack one."""
    if ON_CUDA:
        pytest.skip(what)
    pytest.fail(f"{what}: run make install")


def _nvrtc(major: int) -> Nvrtc:
    for found in find_nvrtc():
        if found.version[0] == major:
            return found
    _missing(f"no NVRTC of CUDA {major} is installed")


def _threads(source: str, kernel: str) -> int:
    """The most threads of a block that the kernel is started with."""
    many = source == "classes.cu" and kernel.endswith("_block")
    return _MANY_THREADS if many else THREADS


def _compile(source: str, cases: list[tuple[int, int, str]]) -> None:
    """Compile a source for all cases, two at a time."""

    def one(case: tuple[int, int, str]) -> None:
        major, arch, storage = case
        found = _nvrtc(major)
        code = compile_nvrtc(KERNELS / source, storage, f"sm_{arch}", found.library)
        assert code[:4] == b"\x7fELF"
        assert int.from_bytes(code[18:20], "little") == EM_CUDA
        taken = registers(code)
        assert taken
        for kernel, count in taken.items():
            assert 0 < count * _threads(source, kernel) <= REGISTERS, kernel

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(one, cases))


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("major", [13, 12])
def test_sources_compile(source: str, major: int) -> None:
    _nvrtc(major)
    _compile(source, [case for case in USUAL if case[0] == major])


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("major", [13, 12])
def test_sources_compile_for_everything(source: str, major: int) -> None:
    _nvrtc(major)
    _compile(source, [case for case in ALL if case[0] == major])


@pytest.fixture
def newest() -> Nvrtc:
    if not find_nvrtc():
        _missing("no NVRTC is installed")
    return find_nvrtc()[0]


def test_every_major_version_is_found_once(newest: Nvrtc) -> None:
    majors = [found.version[0] for found in find_nvrtc()]
    assert majors == sorted(set(majors), reverse=True)
    assert newest.version[0] == majors[0]
    assert {75, 80, 90} <= set(newest.archs)


def test_what_the_compiler_says_is_told(newest: Nvrtc, tmp_path: Path) -> None:
    source = tmp_path / "wrong.cu"
    source.write_text(
        '#include "common.cuh"\nKERNEL(wrong)(T* x) { x[0] = nowhere; }\n'
    )
    with pytest.raises(BackendError, match=r"(?s)wrong.cu \(half16, sm_75\).*nowhere"):
        compile_nvrtc(source, "half16", "sm_75", newest.library)


def test_an_unknown_processor_is_refused(newest: Nvrtc) -> None:
    with pytest.raises(BackendError, match="sm_30"):
        compile_nvrtc(KERNELS / "activation.cu", "float", "sm_30", newest.library)
    assert 30 not in newest.archs
