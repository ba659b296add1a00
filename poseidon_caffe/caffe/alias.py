"""``import caffe`` for code that is not ours: the face under its old name."""

from __future__ import annotations

import importlib
import pkgutil
import sys

__all__ = ["install"]

_FACE = "poseidon_caffe.caffe"
_PACKAGES = (_FACE, f"{_FACE}.proto")


def install() -> None:
    """Let ``import caffe`` and ``import caffe.io`` give this library's modules.

    Every submodule is entered, so that none is imported twice under two names.  A
    real ``caffe`` that is imported already stays.
    """
    present = sys.modules.get("caffe")
    if present is not None and present.__name__ != _FACE:
        return
    for package in _PACKAGES:
        module = importlib.import_module(package)
        _enter(package)
        for found in pkgutil.iter_modules(module.__path__):
            if found.name != "__main__" and not found.ispkg:
                _enter(f"{package}.{found.name}")


def _enter(name: str) -> None:
    sys.modules["caffe" + name.removeprefix(_FACE)] = importlib.import_module(name)
