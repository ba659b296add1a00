"""Layer types by name: the built-in ones, and those of installed packages."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, TypeVar

from poseidon_caffe.errors import LayerError

if TYPE_CHECKING:
    from poseidon_caffe.layers.base import Layer

__all__ = ["ENTRY_POINT_GROUP", "known_types", "layer_class", "register"]

ENTRY_POINT_GROUP = "poseidon_caffe.layers"

_classes: dict[str, type[Layer]] = {}
_state = {"loaded": False}

L = TypeVar("L", bound="type[Layer]")


def register(type_name: str) -> Callable[[L], L]:
    """Class decorator: make the layer known as ``type_name`` in prototxts.

    Raises:
        LayerError: if another class has the name already.
    """

    def decorate(cls: L) -> L:
        other = _classes.get(type_name)
        if other is not None and other.__qualname__ != cls.__qualname__:
            msg = f'layer type "{type_name}" is registered twice: {other} and {cls}'
            raise LayerError(msg)
        cls.type = type_name
        _classes[type_name] = cls
        return cls

    return decorate


def _load() -> None:
    """Import every module of this package, then what other packages register."""
    if _state["loaded"]:
        return
    _state["loaded"] = True
    package = importlib.import_module("poseidon_caffe.layers")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"poseidon_caffe.layers.{module.name}")
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        register(entry.name)(entry.load())


def known_types() -> list[str]:
    """All registered type names, sorted."""
    _load()
    return sorted(_classes)


def layer_class(type_name: str, *, where: str = "") -> type[Layer]:
    """The class of a type name.

    Raises:
        LayerError: naming the layer (``where``), a near match and all known types.
    """
    _load()
    try:
        return _classes[type_name]
    except KeyError:
        # RELU is ReLU in other letters before it is close to ELU.
        same = [name for name in _classes if name.lower() == type_name.lower()]
        near = same or difflib.get_close_matches(type_name, _classes, n=1)
        hint = f'; did you mean "{near[0]}"?' if near else ""
        known = ", ".join(sorted(_classes))
        msg = (
            f'layer "{where}": unknown layer type "{type_name}"{hint} '
            f"(known types: {known})"
        )
        raise LayerError(msg) from None
