"""Runs g++ and keeps what it makes in the user's cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache as remember
from pathlib import Path

from poseidon_caffe.errors import BackendError

__all__ = [
    "cache_folder",
    "compiler",
    "digest",
    "failure",
    "make_library",
    "run",
    "user_cache",
]

_ERROR_LINES = 12


def user_cache() -> Path:
    """Where compiled kernels are kept: ``~/.cache/poseidon/emulator``.

    ``XDG_CACHE_HOME`` takes the place of ``~/.cache`` when it is set.
    """
    home = os.environ.get("XDG_CACHE_HOME")
    base = Path(home) if home else Path.home() / ".cache"
    return base / "poseidon" / "emulator"


def cache_folder(cache: Path | None) -> Path:
    """The folder of compiled libraries, made if it is missing."""
    folder = user_cache() if cache is None else cache
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BackendError(
            f"no folder for compiled kernels: {error}; XDG_CACHE_HOME may name another"
        ) from error
    return folder


def digest(flags: Sequence[str], inputs: Sequence[Path]) -> str:
    """Names a library by all that it is made of."""
    state = hashlib.sha256(_version().encode())
    state.update("\0".join(flags).encode())
    for path in inputs:
        state.update(b"\0" + str(path).encode() + b"\0" + path.read_bytes())
    return state.hexdigest()[:24]


@remember
def compiler() -> str:
    """Path of g++; BackendError if there is none."""
    found = shutil.which("g++")
    if found is None:
        raise BackendError(
            "the GPU emulator compiles kernels with g++, which is not installed "
            "(Debian, Ubuntu: apt install g++)"
        )
    return found


@remember
def _version() -> str:
    return run([compiler(), "--version"]).stdout + os.uname().machine


def run(command: list[str], text: str = "") -> subprocess.CompletedProcess[str]:
    """Run a compiler to its end, with ``text`` as its input."""
    return subprocess.run(  # noqa: S603 - the compiler, with our own arguments
        command, input=text, capture_output=True, text=True, check=False
    )


def make_library(
    text: str, flags: Sequence[str], library: Path, runtime: Path | None = None
) -> None:
    """Compile C++ text; the library appears whole or not at all.

    Args:
        text: the source.
        flags: for g++.
        library: to be made; several processes may make it at once.
        runtime: a library that it is linked to.

    Raises:
        BackendError: g++ refuses the text.
    """
    with tempfile.TemporaryDirectory(prefix="make-", dir=library.parent) as folder:
        made, whole = f"{folder}/made.o", f"{folder}/made.so"
        # Linked without the flags: runtime.cpp has what sanitized code calls.
        link = ["-shared", f"-Wl,-soname,{library.name}", made, "-o", whole]
        for command in (
            [*flags, "-x", "c++", "-c", "-", "-o", made],
            link if runtime is None else [*link, str(runtime)],
        ):
            done = run([compiler(), *command], text)
            if done.returncode:
                raise BackendError(failure(library.name, done.stderr))
        Path(whole).replace(library)


def failure(name: str, log: str) -> str:
    """The first errors of g++, without the warnings around them."""
    lines = log.splitlines()
    errors = [line for line in lines if "error:" in line] or lines
    return f"g++ refuses {name}:\n" + "\n".join(errors[:_ERROR_LINES])
