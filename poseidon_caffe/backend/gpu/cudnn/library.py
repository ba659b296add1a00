"""cuDNN's shared library: where it is, its functions and their types.

The one file with ctypes for cuDNN.  Everything above it deals in Python numbers:
pointers and enum members (`cudnn.constants`) are integers, arrays for and from the
library are made here.  What is declared is the same in every cuDNN 9.x.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

from poseidon_caffe.errors import BackendError

__all__ = ["SIGNATURES", "AlgorithmTime", "CArray", "Library", "open_library"]

CArray: TypeAlias = Any
"""Numbers in host memory that the library reads or writes; indexed from 0."""

_LIBRARY_ENV = "POSEIDON_CUDNN_LIBRARY"
_NAME = "libcudnn.so.9"
_MAJOR = 9
_SUBLIBRARY_LOADING_FAILED = 1008
_NOT_SUPPORTED = range(3000, 4000)
# In this order: each needs those before it.
_PARTS = ("graph", "engines_precompiled", "engines_runtime_compiled", "heuristic",
          "ops", "cnn")  # fmt: skip

_TYPES: dict[str, type] = {
    "p": ctypes.c_void_p,
    "i": ctypes.c_int,
    "u": ctypes.c_uint,
    "z": ctypes.c_size_t,
    "l": ctypes.c_int64,
    "d": ctypes.c_double,
}

SIGNATURES: dict[str, str] = {
    # Handle and stream.
    "cudnnCreate": "p",
    "cudnnDestroy": "p",
    "cudnnSetStream": "pp",
    "cudnnCnnVersionCheck": "",
    # Tensors and filters.
    "cudnnCreateTensorDescriptor": "p",
    "cudnnSetTensorNdDescriptor": "piipp",
    "cudnnGetTensorNdDescriptor": "pipppp",
    "cudnnGetTensorSizeInBytes": "pp",
    "cudnnDestroyTensorDescriptor": "p",
    "cudnnCreateFilterDescriptor": "p",
    "cudnnSetFilterNdDescriptor": "piiip",
    "cudnnGetFilterNdDescriptor": "pipppp",
    "cudnnDestroyFilterDescriptor": "p",
    # Convolution.
    "cudnnCreateConvolutionDescriptor": "p",
    "cudnnSetConvolutionNdDescriptor": "pipppii",
    "cudnnSetConvolutionGroupCount": "pi",
    "cudnnGetConvolutionGroupCount": "pp",
    "cudnnSetConvolutionMathType": "pi",
    "cudnnGetConvolutionMathType": "pp",
    "cudnnGetConvolutionNdForwardOutputDim": "pppip",
    "cudnnDestroyConvolutionDescriptor": "p",
    "cudnnGetConvolutionForwardAlgorithmMaxCount": "pp",
    "cudnnGetConvolutionBackwardDataAlgorithmMaxCount": "pp",
    "cudnnGetConvolutionBackwardFilterAlgorithmMaxCount": "pp",
    "cudnnGetConvolutionForwardWorkspaceSize": "pppppip",
    "cudnnGetConvolutionBackwardDataWorkspaceSize": "pppppip",
    "cudnnGetConvolutionBackwardFilterWorkspaceSize": "pppppip",
    "cudnnGetConvolutionForwardAlgorithm_v7": "pppppipp",
    "cudnnGetConvolutionBackwardDataAlgorithm_v7": "pppppipp",
    "cudnnGetConvolutionBackwardFilterAlgorithm_v7": "pppppipp",
    "cudnnFindConvolutionForwardAlgorithmEx": "ppppppppipppz",
    "cudnnFindConvolutionBackwardDataAlgorithmEx": "ppppppppipppz",
    "cudnnFindConvolutionBackwardFilterAlgorithmEx": "ppppppppipppz",
    "cudnnConvolutionForward": "pppppppipzppp",
    "cudnnConvolutionBackwardData": "pppppppipzppp",
    "cudnnConvolutionBackwardFilter": "pppppppipzppp",
    "cudnnConvolutionBiasActivationForward": "pppppppipzpppppppp",
    "cudnnConvolutionBackwardBias": "ppppppp",
    # Activation and softmax.
    "cudnnCreateActivationDescriptor": "p",
    "cudnnSetActivationDescriptor": "piid",
    "cudnnDestroyActivationDescriptor": "p",
    "cudnnActivationForward": "pppppppp",
    "cudnnActivationBackward": "pppppppppppp",
    "cudnnSoftmaxForward": "piipppppp",
    "cudnnSoftmaxBackward": "piipppppppp",
    # Pooling.
    "cudnnCreatePoolingDescriptor": "p",
    "cudnnSetPoolingNdDescriptor": "piiippp",
    "cudnnGetPoolingNdForwardOutputDim": "ppip",
    "cudnnDestroyPoolingDescriptor": "p",
    "cudnnPoolingForward": "pppppppp",
    "cudnnPoolingBackward": "pppppppppppp",
    # Local response normalisation.
    "cudnnCreateLRNDescriptor": "p",
    "cudnnSetLRNDescriptor": "puddd",
    "cudnnDestroyLRNDescriptor": "p",
    "cudnnLRNCrossChannelForward": "ppipppppp",
    "cudnnLRNCrossChannelBackward": "ppipppppppppp",
    # Batch normalisation.
    "cudnnBatchNormalizationForwardInference": "pippppppppppp" + "d",
    "cudnnGetBatchNormalizationForwardTrainingExWorkspaceSize": "piippppp" + "p",
    "cudnnGetBatchNormalizationBackwardExWorkspaceSize": "piippppppp" + "p",
    "cudnnGetBatchNormalizationTrainingExReserveSpaceSize": "piippp",
    "cudnnBatchNormalizationForwardTrainingEx": ("piipppppppp" + "pppdppdppppzpz"),
    "cudnnBatchNormalizationBackwardEx": ("piipppppppppppppp" + "pppppdppppzpz"),
    # Graphs of operations.
    "cudnnBackendCreateDescriptor": "ip",
    "cudnnBackendDestroyDescriptor": "p",
    "cudnnBackendFinalize": "p",
    "cudnnBackendSetAttribute": "piilp",
    "cudnnBackendGetAttribute": "piilpp",
    "cudnnBackendExecute": "ppp",
}
"""Arguments of each function, a letter each: p(ointer), i(nt or enum), u(nsigned),
z (size_t), l (int64_t), d(ouble).  All return a status."""


class AlgorithmTime(ctypes.Structure):
    """What the library found out about one convolution algorithm.

    Attributes:
        algo: its number.
        status: 0 if it ran.
        time: milliseconds.
        memory: bytes of workspace.
        determinism: 1 if it gives the same bits each time.
        math_type: what it may compute with.
    """

    algo: int
    status: int
    time: float
    memory: int
    determinism: int
    math_type: int

    _fields_ = (
        ("algo", ctypes.c_int),
        ("status", ctypes.c_int),
        ("time", ctypes.c_float),
        ("memory", ctypes.c_size_t),
        ("determinism", ctypes.c_int),
        ("math_type", ctypes.c_int),
        ("reserved", ctypes.c_int * 3),
    )


class Library:
    """A loaded cuDNN 9.

    Attributes:
        path: file name that it was loaded by.
        version: major, minor, patch.

    Args:
        path: of ``libcudnn.so.9``.

    Raises:
        OSError: it cannot be loaded, or is no cuDNN 9.
        AttributeError: a function is missing.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = str(path)
        lib = ctypes.CDLL(self.path)
        lib.cudnnGetVersion.restype = ctypes.c_size_t
        number = int(lib.cudnnGetVersion())
        self.version = (number // 10_000, number // 100 % 100, number % 100)
        if self.version[0] != _MAJOR:
            raise OSError(f"version number {number} is not of cuDNN {_MAJOR}")
        lib.cudnnGetErrorString.restype = ctypes.c_char_p
        lib.cudnnGetErrorString.argtypes = [ctypes.c_int]
        lib.cudnnGetLastErrorString.restype = None
        lib.cudnnGetLastErrorString.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
        self._lib = lib
        self._functions = {name: self._declared(name) for name in SIGNATURES}
        self._load_parts()

    def _declared(self, name: str) -> Any:
        function = getattr(self._lib, name)
        function.restype = ctypes.c_int
        function.argtypes = [_TYPES[letter] for letter in SIGNATURES[name]]
        return function

    def _load_parts(self) -> None:
        """Load what the library loads itself, where it does not find it by itself."""
        if self.attempt("cudnnCnnVersionCheck") != _SUBLIBRARY_LOADING_FAILED:
            return
        folder = Path(self.path).resolve().parent
        for part in _PARTS:
            path = folder / f"libcudnn_{part}.so.{_MAJOR}"
            if path.exists():
                ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)

    # -- calls -----------------------------------------------------------------------
    def attempt(self, name: str, *arguments: object) -> int:
        """Call a function; its status, 0 for success."""
        return int(self._functions[name](*arguments))

    def call(self, name: str, *arguments: object) -> None:
        """Call a function.

        Raises:
            BackendError: it failed; says which, why, and what the library adds.
        """
        status = self._functions[name](*arguments)
        if status:
            raise self.error(name, status)

    def supported(self, name: str, *arguments: object) -> bool:
        """Call a function that may not support what it is asked for.

        Raises:
            BackendError: it failed for another reason.
        """
        status = self.attempt(name, *arguments)
        if status and status not in _NOT_SUPPORTED:
            raise self.error(name, status)
        return not status

    def error(self, name: str, status: int) -> BackendError:
        """What to raise for a function that failed with ``status``."""
        text = ctypes.create_string_buffer(1024)
        self._lib.cudnnGetLastErrorString(text, len(text))
        meaning = (self._lib.cudnnGetErrorString(status) or b"unknown").decode()
        detail = text.value.decode(errors="replace").strip()
        version = ".".join(map(str, self.version))
        message = f"cuDNN {version}: {name} failed: {meaning} ({status})"
        return BackendError(f"{message}: {detail}" if detail else message)

    def create(self, name: str) -> int:
        """Call a function that makes a handle or descriptor; returns it."""
        made = self.pointers()
        self.call(name, made)
        return int(made[0])

    # -- numbers in host memory ------------------------------------------------------
    @staticmethod
    def ints(values: Sequence[int] = (0,)) -> CArray:
        """``int`` numbers (enums too); one 0 to be written unless given."""
        return (ctypes.c_int * len(values))(*values)

    @staticmethod
    def longs(values: Sequence[int] = (0,)) -> CArray:
        """``int64_t`` numbers."""
        return (ctypes.c_int64 * len(values))(*values)

    @staticmethod
    def sizes(values: Sequence[int] = (0,)) -> CArray:
        """``size_t`` numbers."""
        return (ctypes.c_size_t * len(values))(*values)

    @staticmethod
    def pointers(values: Sequence[int | None] = (None,)) -> CArray:
        """Pointers: of the device, handles or descriptors; None is null."""
        return (ctypes.c_void_p * len(values))(*values)

    @staticmethod
    def booleans(values: Sequence[bool]) -> CArray:
        """``bool`` values."""
        return (ctypes.c_bool * len(values))(*values)

    @staticmethod
    def reals(values: Sequence[float], *, double: bool) -> CArray:
        """``double`` or ``float`` numbers, such as the factors alpha and beta."""
        kind = ctypes.c_double if double else ctypes.c_float
        return (kind * len(values))(*values)

    @staticmethod
    def text(value: str | int) -> CArray:
        """A C string, or room for one of so many bytes."""
        room = value if isinstance(value, int) else value.encode()
        return ctypes.create_string_buffer(room)

    @staticmethod
    def algorithm_times(count: int) -> CArray:
        """Room for so many `AlgorithmTime` records."""
        return (AlgorithmTime * count)()


def _candidates() -> list[Path | str]:
    """Where the library may be, by preference: override, wheel, system."""
    override = os.environ.get(_LIBRARY_ENV)
    if override:
        return [override]
    folders = [Path(entry) / "nvidia/cudnn/lib" for entry in sys.path if entry]
    folders += [Path(p) for p in os.environ.get("LD_LIBRARY_PATH", "").split(":") if p]
    for variable in ("CUDNN_PATH", "CUDA_PATH", "CONDA_PREFIX"):
        if os.environ.get(variable):
            root = Path(os.environ[variable])
            folders += [root / "lib64", root / "lib"]
    folders += [Path("/usr/local/cuda/lib64"), Path("/usr/local/lib")]
    paths = dict.fromkeys(folder / _NAME for folder in folders)
    # The last one is what the system's loader knows.
    return [*(path for path in paths if path.exists()), _NAME]


def open_library() -> Library:
    """The first cuDNN 9 that loads; ``POSEIDON_CUDNN_LIBRARY`` names one.

    Looked for in the wheels ``nvidia-cudnn-cu13`` and ``nvidia-cudnn-cu12``, the
    folders of ``LD_LIBRARY_PATH``, ``CUDNN_PATH``, ``CUDA_PATH`` and
    ``CONDA_PREFIX``, and the system's.

    Raises:
        BackendError: none can be loaded; says what was tried.
    """
    tried: list[str] = []
    for path in _candidates():
        try:
            return Library(path)
        except (OSError, AttributeError) as error:
            tried.append(f"{path}: {error}")
    msg = (
        f"no cuDNN {_MAJOR} library ({_NAME}) can be loaded, so convolutions run on "
        f"Poseidon's own kernels: pip install nvidia-cudnn-cu13 (CUDA 13) or "
        f"nvidia-cudnn-cu12 (CUDA 12), or set {_LIBRARY_ENV}; tried " + "; ".join(tried)
    )
    raise BackendError(msg)
