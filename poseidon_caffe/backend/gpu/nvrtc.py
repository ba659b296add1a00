"""NVIDIA's run-time compiler by ctypes: CUDA sources to machine code, with no GPU.

CuPy compiles the kernels that run; this compiles each of them for every supported
processor wherever there is none, so that a source that NVRTC refuses is found out.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from poseidon_caffe.errors import BackendError

__all__ = ["Nvrtc", "compile_nvrtc", "find_nvrtc", "nvrtc_options"]

_KERNELS = Path(__file__).resolve().parent / "kernels"
_WHEEL_LIBRARIES = (
    "nvidia/cu13/lib/libnvrtc.so.13",
    "nvidia/cuda_nvrtc/lib/libnvrtc.so.13",
    "nvidia/cuda_nvrtc/lib/libnvrtc.so.12",
)
# CuPy adds these to every RawModule (cupy/cuda/compiler.py), so CI has them too.
_OPTIONS_OF_CUPY = ("-ftz=true", "--device-as-default-execution-space")
_SYSTEM_LIBRARIES = ("libnvrtc.so.13", "libnvrtc.so.12")


@dataclass(frozen=True)
class Nvrtc:
    """One NVRTC that can be loaded.

    Attributes:
        library: its path, or the name under which the system knows it.
        version: of CUDA, major and minor, such as (13, 0).
        archs: processors it compiles for, such as 75 for ``sm_75``.
    """

    library: Path
    version: tuple[int, int]
    archs: tuple[int, ...]


@cache
def find_nvrtc() -> tuple[Nvrtc, ...]:
    """Every NVRTC of the pip wheels and of the system, one a major version.

    The newest version comes first; empty when there is none.
    """
    found: dict[int, Nvrtc] = {}
    for path in _candidates():
        try:
            bound = _load(path)
        except OSError:
            continue
        version = _version(bound)
        found.setdefault(version[0], Nvrtc(path, version, _archs(bound)))
    return tuple(found[major] for major in sorted(found, reverse=True))


def _candidates() -> Iterator[Path]:
    for name in _WHEEL_LIBRARIES:
        for folder in sys.path:
            path = Path(folder) / name
            if path.is_file():
                yield path
    for name in _SYSTEM_LIBRARIES:
        yield Path(name)


@cache
def _load(library: Path) -> ctypes.CDLL:
    """NVRTC with the types of the functions used here.

    Its helper ``libnvrtc-builtins`` is found beside it by its run path.
    """
    loaded = ctypes.CDLL(str(library))
    loaded.nvrtcGetErrorString.restype = ctypes.c_char_p
    loaded.nvrtcCreateProgram.argtypes = [
        ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int,
        ctypes.c_void_p, ctypes.c_void_p,
    ]  # fmt: skip
    loaded.nvrtcCompileProgram.argtypes = [
        ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p,
    ]  # fmt: skip
    loaded.nvrtcDestroyProgram.argtypes = [ctypes.c_void_p]
    for what in ("ProgramLog", "CUBIN"):
        for name in (f"nvrtcGet{what}Size", f"nvrtcGet{what}"):
            getattr(loaded, name).argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    return loaded


def _check(bound: ctypes.CDLL, code: int, what: str) -> None:
    if code:
        reason = bound.nvrtcGetErrorString(code).decode()
        raise BackendError(f"NVRTC: {what}: {reason}")


def _version(bound: ctypes.CDLL) -> tuple[int, int]:
    major, minor = ctypes.c_int(), ctypes.c_int()
    code = bound.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    _check(bound, code, "version")
    return major.value, minor.value


def _archs(bound: ctypes.CDLL) -> tuple[int, ...]:
    count = ctypes.c_int()
    code = bound.nvrtcGetNumSupportedArchs(ctypes.byref(count))
    _check(bound, code, "number of processors")
    archs = (ctypes.c_int * count.value)()
    _check(bound, bound.nvrtcGetSupportedArchs(archs), "processors")
    return tuple(archs)


def nvrtc_options(storage: str) -> tuple[str, ...]:
    """Options for every compilation, to be given to CuPy too: language and types.

    Args:
        storage: ``float``, ``double``, ``half16`` or ``bfloat16``.
    """
    return ("--std=c++17", f"-I{_KERNELS}", f"-DSTORAGE={storage}")


def compile_nvrtc(
    source: Path, storage: str, arch: str, library: Path | None = None
) -> bytes:
    """Compile a CUDA source to machine code (a cubin).

    Args:
        source: a ``.cu`` file; it includes only ``common.cuh``.
        storage: ``float``, ``double``, ``half16`` or ``bfloat16``.
        arch: the processor, such as ``sm_75``.
        library: of NVRTC; by default the newest that `find_nvrtc` knows.

    Raises:
        BackendError: no NVRTC is installed, or it refuses the source (its log is
            in the message).
    """
    if library is None:
        known = find_nvrtc()
        if not known:
            raise BackendError(
                "no NVRTC found: pip install nvidia-cuda-nvrtc (CUDA 13) "
                "or nvidia-cuda-nvrtc-cu12"
            )
        library = known[0].library
    bound = _load(library)
    options = (
        f"--gpu-architecture={arch}", *nvrtc_options(storage), *_OPTIONS_OF_CUPY,
    )  # fmt: skip
    program = ctypes.c_void_p()
    code = bound.nvrtcCreateProgram(
        ctypes.byref(program), source.read_bytes(), source.name.encode(), 0, None, None
    )
    _check(bound, code, f"{source.name}: create program")
    try:
        texts = [option.encode() for option in options]
        code = bound.nvrtcCompileProgram(
            program, len(texts), (ctypes.c_char_p * len(texts))(*texts)
        )
        if code:
            log = _fetch(bound, program, "ProgramLog").rstrip(b"\0").decode()
            _check(bound, code, f"{source.name} ({storage}, {arch})\n{log}")
        return _fetch(bound, program, "CUBIN")
    finally:
        bound.nvrtcDestroyProgram(ctypes.byref(program))


def _fetch(bound: ctypes.CDLL, program: ctypes.c_void_p, what: str) -> bytes:
    """The log or the machine code of a program."""
    size = ctypes.c_size_t()
    code = getattr(bound, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
    _check(bound, code, f"size of {what}")
    text = ctypes.create_string_buffer(max(size.value, 1))
    _check(bound, getattr(bound, f"nvrtcGet{what}")(program, text), what)
    return text.raw[: size.value]
