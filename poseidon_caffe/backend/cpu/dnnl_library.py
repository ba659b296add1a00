"""oneDNN's shared library: where it is, its constants, its functions' types.

Enum values are those of oneDNN 3.x, which its C ABI keeps stable, so any version
from 3.0 on will do.
"""

from __future__ import annotations

import ctypes
import enum
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from poseidon_caffe.errors import BackendError

__all__ = [
    "Alg",
    "Arg",
    "ExecArg",
    "Library",
    "Owned",
    "Prop",
    "Query",
    "c_argument",
    "dims",
    "open_library",
]

_LIBRARY_ENV = "POSEIDON_DNNL_LIBRARY"
_MIN_VERSION = (3, 0)
_MAX_NDIMS = 12
_C_TYPES: tuple[tuple[type, Callable[[Any], object]], ...] = (
    (float, ctypes.c_float),
    (enum.IntEnum, ctypes.c_int),
    (np.integer, lambda value: ctypes.c_int64(int(value))),
)


@dataclass(frozen=True)
class Library:
    """A loaded oneDNN.

    Attributes:
        lib: its functions, with argument types declared.
        path: file name that it was loaded by.
        version: major, minor, patch.
    """

    lib: ctypes.CDLL
    path: str
    version: tuple[int, int, int]


class Prop(enum.IntEnum):
    """Propagation kinds."""

    TRAINING = 64
    INFERENCE = 96
    BACKWARD = 128
    BACKWARD_DATA = 160


class Alg(enum.IntEnum):
    """Algorithm kinds."""

    CONV_DIRECT = 0x1
    RELU = 0x20
    TANH = 0x21
    ELU = 0x22
    SQUARE = 0x23
    ABS = 0x24
    SQRT = 0x25
    LINEAR = 0x26
    SOFT_RELU = 0x27
    LOGISTIC = 0x29
    EXP = 0x2A
    SWISH = 0x2C
    LOG = 0x2D
    CLIP = 0x2E
    POW = 0x30
    RELU_DST = 0x100
    TANH_DST = 0x101
    ELU_DST = 0x102
    LOGISTIC_DST = 0x104
    EXP_DST = 0x105
    POOL_MAX = 0x1FF
    POOL_AVG_PADDED = 0x2FF
    LRN_ACROSS = 0xAFF
    LRN_WITHIN = 0xBFF
    MUL = 0x1FFF1
    DIV = 0x1FFF4
    SUB = 0x1FFF5
    ADD = 0x1FFF0
    MAX = 0x1FFF2
    GE = 0x1FFF6
    GT = 0x1FFF7
    LT = 0x1FFF9
    EQ = 0x1FFFA
    SOFTMAX = 0x30000


class Arg(enum.IntEnum):
    """Which operand of a primitive a memory is."""

    SRC = 1
    SRC_1 = 2
    DST = 17
    WEIGHTS = 33
    BIAS = 41
    MEAN = 49
    VARIANCE = 50
    SCALE = 51
    SHIFT = 52
    WORKSPACE = 64
    SCRATCHPAD = 80
    DIFF_SRC = 129
    DIFF_DST = 145
    DIFF_WEIGHTS = 161
    DIFF_BIAS = 169
    DIFF_SCALE = 255
    DIFF_SHIFT = 256
    MULTIPLE_SRC = 1024
    SCALES = 4096
    POST_OP = 32768


class Query(enum.IntEnum):
    """What to ask a primitive descriptor for."""

    SRC = 129
    DIFF_SRC = 130
    WEIGHTS = 131
    DIFF_WEIGHTS = 132
    DST = 133
    DIFF_DST = 134
    WORKSPACE = 135
    SCRATCHPAD = 136


class ExecArg(ctypes.Structure):
    """An operand of an execution: which one, and its memory object."""

    _fields_ = (("arg", ctypes.c_int), ("memory", ctypes.c_void_p))


class Owned:
    """A library object that is destroyed with its Python owner."""

    __slots__ = ("_destroy", "handle")

    def __init__(self, handle: int | None, destroy: object) -> None:
        self.handle = handle
        self._destroy = destroy

    def __del__(self) -> None:
        if self.handle and callable(self._destroy):
            self._destroy(self.handle)
            self.handle = None


def dims(values: Sequence[int]) -> ctypes.Array[ctypes.c_int64]:
    """Axis lengths as the C functions take them."""
    return (ctypes.c_int64 * _MAX_NDIMS)(*values)


def c_argument(value: object) -> object:
    """A value as the C functions want it; None (NULL) and plain ints stay."""
    if isinstance(value, Owned):
        return ctypes.c_void_p(value.handle)
    if isinstance(value, tuple):
        return dims(value)
    for kind, c_type in _C_TYPES:
        if isinstance(value, kind):
            return c_type(value)
    return value


def _declare(lib: ctypes.CDLL) -> None:
    """Types for the functions whose arguments ctypes would guess wrongly."""
    pointer, i64, f32 = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
    lib.dnnl_memory_desc_get_size.restype = ctypes.c_size_t
    lib.dnnl_memory_desc_get_size.argtypes = [pointer]
    lib.dnnl_primitive_desc_query_md.restype = pointer
    lib.dnnl_primitive_desc_query_md.argtypes = [pointer, ctypes.c_int, ctypes.c_int]
    lib.dnnl_primitive_desc_query.argtypes = [
        pointer, ctypes.c_int, ctypes.c_int, pointer,
    ]  # fmt: skip
    lib.dnnl_primitive_execute.argtypes = [
        pointer, pointer, ctypes.c_int, ctypes.POINTER(ExecArg),
    ]  # fmt: skip
    lib.dnnl_memory_set_data_handle.argtypes = [pointer, pointer]
    lib.dnnl_memory_create.argtypes = [pointer, pointer, pointer, pointer]
    lib.dnnl_primitive_create.argtypes = [pointer, pointer]
    lib.dnnl_memory_desc_clone.argtypes = [pointer, pointer]
    lib.dnnl_primitive_attr_set_scratchpad_mode.argtypes = [pointer, ctypes.c_int]
    lib.dnnl_primitive_attr_set_post_ops.argtypes = [pointer, pointer]
    lib.dnnl_primitive_attr_set_scales_mask.argtypes = [
        pointer, ctypes.c_int, ctypes.c_int,
    ]  # fmt: skip
    lib.dnnl_post_ops_append_sum.argtypes = [
        pointer, f32, ctypes.c_int32, ctypes.c_int,
    ]  # fmt: skip
    lib.dnnl_post_ops_append_eltwise.argtypes = [pointer, ctypes.c_int, f32, f32]
    lib.dnnl_post_ops_append_binary.argtypes = [pointer, ctypes.c_int, pointer]
    for name in ("memory", "memory_desc", "primitive", "primitive_desc"):
        getattr(lib, f"dnnl_{name}_destroy").argtypes = [pointer]
    lib.dnnl_primitive_attr_destroy.argtypes = [pointer]
    lib.dnnl_post_ops_destroy.argtypes = [pointer]
    lib.dnnl_sgemm.argtypes = [
        ctypes.c_char, ctypes.c_char, i64, i64, i64, f32, pointer, i64, pointer, i64,
        f32, pointer, i64,
    ]  # fmt: skip


class _Version(ctypes.Structure):
    _fields_ = (("major", ctypes.c_int), ("minor", ctypes.c_int),
                ("patch", ctypes.c_int))  # fmt: skip


def _version(lib: ctypes.CDLL) -> tuple[int, int, int]:
    lib.dnnl_version.restype = ctypes.POINTER(_Version)
    found = lib.dnnl_version().contents
    return (found.major, found.minor, found.patch)


def _candidates() -> list[Path | str]:
    """Where the library may be, by preference: override, wheel, system."""
    override = os.environ.get(_LIBRARY_ENV)
    if override:
        return [override]
    roots = dict.fromkeys([Path(sys.prefix), *(Path(p) for p in sys.path if p)])
    found: list[Path | str] = []
    for root in roots:
        # Wheels put data files under the prefix; --target installs beside packages.
        found += [root / "lib" / "libdnnl.so.3", root / "../../libdnnl.so.3"]
    system = ("/usr/lib/x86_64-linux-gnu", "/usr/local/lib", "/usr/lib64", "/usr/lib")
    found += [Path(folder) / "libdnnl.so.3" for folder in system]
    return [path for path in found if Path(path).exists()] + ["libdnnl.so.3"]


def _open(path: Path | str) -> Library:
    lib = ctypes.CDLL(str(path))
    version = _version(lib)
    if version[:2] < _MIN_VERSION:
        raise OSError(f"version {version} is older than {_MIN_VERSION}")
    _declare(lib)
    return Library(lib, str(path), version)


def open_library() -> Library:
    """The newest oneDNN at hand; ``POSEIDON_DNNL_LIBRARY`` overrides.

    Raises:
        BackendError: none can be loaded; says what was tried.
    """
    tried: list[str] = []
    found: list[Library] = []
    for path in _candidates():
        try:
            found.append(_open(path))
        except (OSError, AttributeError) as error:
            tried.append(f"{path}: {error}")
    if not found:
        msg = (
            "no oneDNN library (libdnnl.so.3) can be loaded, so kernels would run on "
            "NumPy: pip install onednn-cpu-gomp, and libgomp1 from the system; tried "
            + "; ".join(tried)
        )
        raise BackendError(msg)
    return max(found, key=lambda library: library.version)
