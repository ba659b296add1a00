"""Compiles a CUDA source for the host with g++ and launches its kernels there.

The kernels see a GPU's vocabulary (``host.h``); the threads of a block are fibers
of one processor thread (``runtime.cpp``).  Shared libraries are kept in the user's
cache, named by a hash of everything that went into them.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache as remember
from pathlib import Path
from typing import Any

from poseidon_caffe.backend.gpu.emulator.build import (
    cache_folder,
    compiler,
    digest,
    failure,
    make_library,
    run,
)
from poseidon_caffe.backend.gpu.emulator.limits import check_grid
from poseidon_caffe.errors import BackendError

__all__ = [
    "HostModule",
    "bounds_checked",
    "compile_host",
    "forget_memory",
    "watch_memory",
]

_ROOM = Path(__file__).resolve().parent
_KERNELS = _ROOM.parent / "kernels"
_HEADERS = (
    "bounds.h", "fibers.h", "host.h", "kernel.h", "launch.h", "races.h", "runtime.cpp",
)  # fmt: skip

_FLAGS = (
    "-O2", "-fPIC", "-std=c++17", "-ffp-contract=off", "-fno-strict-aliasing",
    "-Wall", "-Wextra", "-Werror=return-type", "-Werror=uninitialized",
    "-Werror=format", "-Werror=array-bounds", "-Werror=parentheses",
    "-fsanitize=alignment,null,bounds,integer-divide-by-zero",
    "-Wno-unknown-pragmas", "-Wno-unused-function", "-fvisibility=hidden",
)  # fmt: skip
# Every load and store of a kernel is checked: bounds.h, races.h.
_CHECKED = ("-fsanitize=thread",)
_KERNEL = re.compile(r"\bstatic\s+poseidon_kernel_result\s+(\w+)")
_MESSAGE_BYTES = 1024

_Dim3 = ctypes.c_uint * 3
_KIND_OF: dict[type[Any], str] = {
    ctypes.c_void_p: "p",
    ctypes.c_longlong: "i",
    ctypes.c_double: "d",
}
_KIND_NAMES = {"p": "pointer", "i": "integer", "d": "double"}


class HostModule:
    """The kernels of one source, compiled for one storage type.

    Attributes:
        source: the CUDA source.
        library: the shared library made of it.
        kernels: the kernels' names, in the order of the source.
    """

    def __init__(self, source: Path, library: Path) -> None:
        self.source = source
        self.library = library
        try:
            self._loaded = ctypes.CDLL(str(library))
        except OSError as error:
            raise BackendError(f"cannot load {library}: {error}") from error
        listing = self._loaded.poseidon_listing
        listing.restype = ctypes.c_char_p
        self.kernels = tuple(listing().decode().split())
        self._entries = {name: self._entry(name) for name in self.kernels}

    def _entry(self, name: str) -> tuple[str, Callable[..., int]]:
        """A kernel's parameter kinds (one letter each) and its launcher."""
        kinds = getattr(self._loaded, f"poseidon_kinds_{name}")
        kinds.restype = ctypes.c_char_p
        return kinds().decode(), getattr(self._loaded, f"poseidon_launch_{name}")

    def launch(
        self,
        kernel: str,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        args: Sequence[Any],
    ) -> None:
        """Run every thread of every block, one after the other, to the end.

        Args:
            kernel: its name.
            grid: blocks along x, y and z.
            block: threads of a block along x, y and z.
            args: `c_void_p`, `c_longlong` or `c_double`, one for each parameter.

        Raises:
            BackendError: no such kernel, a grid or block that CUDA refuses,
                arguments that do not fit the parameters, or a divergent barrier.
        """
        if kernel not in self._entries:
            raise BackendError(
                f"{self.source.name} has no kernel {kernel!r}; it has: "
                + ", ".join(self.kernels)
            )
        kinds, launcher = self._entries[kernel]
        check_grid(kernel, grid, block)
        received = "".join(_KIND_OF.get(type(arg), "?") for arg in args)
        if received != kinds:
            raise BackendError(_mismatch(kernel, kinds, received, args))
        addresses = (ctypes.c_void_p * max(len(args), 1))(
            *(ctypes.addressof(arg) for arg in args)
        )
        message = ctypes.create_string_buffer(_MESSAGE_BYTES)
        size = ctypes.c_long(_MESSAGE_BYTES)
        if launcher(addresses, _Dim3(*grid), _Dim3(*block), message, size):
            raise BackendError(
                f"kernel {kernel} ({self.source.name}): "
                + message.value.decode(errors="replace")
            )


def _mismatch(kernel: str, kinds: str, received: str, args: Sequence[Any]) -> str:
    """Which arguments a kernel wants, and which it was given."""
    wanted = ", ".join(_KIND_NAMES[kind] for kind in kinds)
    given = ", ".join(
        _KIND_NAMES.get(kind, type(arg).__name__)
        for kind, arg in zip(received, args, strict=True)
    )
    return (
        f"kernel {kernel} takes {len(kinds)} arguments ({wanted}), "
        f"received {len(received)} ({given})"
    )


def compile_host(source: Path, storage: str, cache: Path | None = None) -> HostModule:
    """Compile a CUDA source with g++, or load what was compiled before.

    Args:
        source: a ``.cu`` file; it includes only ``common.cuh``.
        storage: ``float``, ``double``, ``half16`` or ``bfloat16``.
        cache: the folder of compiled libraries, by default `user_cache`.

    Raises:
        BackendError: there is no g++, or it refuses the source.
    """
    source = source.resolve()
    folder = cache_folder(cache)
    runtime = _runtime().library
    flags = (
        *_FLAGS, *(_CHECKED if bounds_checked() else ()),
        "-DPOSEIDON_HOST", f"-DSTORAGE={storage}", f"-I{_ROOM}", f"-I{_KERNELS}",
    )  # fmt: skip
    inputs = (source, _KERNELS / "common.cuh", *(_ROOM / n for n in _HEADERS))
    library = (
        folder / f"{source.stem}-{storage}-{digest((*flags, runtime.name), inputs)}.so"
    )
    if not library.exists():
        names = _kernel_names(source, flags)
        make_library(_unit(source, names), flags, library, runtime)
    return HostModule(source, library)


def bounds_checked() -> bool:
    """Whether kernels compiled now check every access (slower).

    ``POSEIDON_EMULATOR_SANITIZE=1`` in the environment says so.  A kernel then may
    touch only what `watch_memory` was told of, at addresses that suit the type, and
    its threads may not race (``races.h``).
    """
    return os.environ.get("POSEIDON_EMULATOR_SANITIZE", "0") not in {"", "0"}


def watch_memory(pointer: int, nbytes: int) -> None:
    """Tell of device memory that kernels may touch, until `forget_memory`.

    Args:
        pointer: address of its first byte.
        nbytes: of it, more than 0.
    """
    _runtime().loaded.poseidon_allow(ctypes.c_void_p(pointer), ctypes.c_long(nbytes))


def forget_memory(pointer: int) -> None:
    """Kernels may no longer touch what begins at ``pointer``."""
    _runtime().loaded.poseidon_forbid(ctypes.c_void_p(pointer))


def _unit(source: Path, names: Sequence[str]) -> str:
    """The C++ text that makes a library of a source: kernels and launchers.

    The kernels lie in an anonymous namespace so that their `__shared__`
    variables, of templates or not, may share a section; and that lies in a named
    one so that a kernel may be called as a function of C (random).
    """
    lines = [
        '#include "host.h"',
        "namespace poseidon_kernels { namespace {",
        f'#include "{source}"',
        "} }",
        '#include "launch.h"',
        *(f"POSEIDON_LAUNCHER({name})" for name in names),
        "POSEIDON_EXPORT const char* poseidon_listing() {",
        f'  return "{" ".join(names)}";',
        "}",
    ]
    return "\n".join(lines) + "\n"


def _kernel_names(source: Path, flags: Sequence[str]) -> list[str]:
    """Kernels found in the preprocessed source, so macros may make them."""
    command = [compiler(), "-x", "c++", "-E", "-P", *flags, str(source)]
    done = run(command)
    if done.returncode:
        raise BackendError(failure(source.name, done.stderr))
    return _KERNEL.findall(done.stdout)


@dataclass(frozen=True)
class _Runtime:
    """The library of fibers: one for all modules of the process."""

    library: Path
    loaded: ctypes.CDLL


@remember
def _runtime() -> _Runtime:
    """Compiled at first use; modules find it by its name, as it is loaded."""
    inputs = tuple(_ROOM / name for name in _HEADERS)
    flags = (*_FLAGS, "-fno-sanitize=all", "-DPOSEIDON_HOST", f"-I{_ROOM}")
    library = cache_folder(None) / f"runtime-{digest(flags, inputs)}.so"
    if not library.exists():
        text = f'#include "{_ROOM / "runtime.cpp"}"\n'
        make_library(text, (*flags, "-fvisibility=default"), library)
    return _Runtime(library, ctypes.CDLL(str(library)))
