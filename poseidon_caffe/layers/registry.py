"""Layer types by name: the built-in ones, and those of installed packages."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, TypeVar

from poseidon_caffe.errors import LayerError

if TYPE_CHECKING:
    from poseidon_caffe.layers.base import Layer

__all__ = ["ENTRY_POINT_GROUP", "known_types", "layer_class", "register"]

ENTRY_POINT_GROUP = "poseidon_caffe.layers"

_classes: dict[str, type[Layer]] = {}
#: What packages register and nobody has asked for yet.
_entries: dict[str, list[EntryPoint]] = {}
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
    """Import every module of this package; note what other packages register."""
    if _state["loaded"]:
        return
    _state["loaded"] = True
    package = importlib.import_module("poseidon_caffe.layers")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"poseidon_caffe.layers.{module.name}")
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        others = _entries.setdefault(entry.name, [])
        if entry.value not in [other.value for other in others]:
            others.append(entry)


def _load_entries(type_name: str) -> None:
    """Import what packages register as ``type_name``, the first time it is wanted.

    Raises:
        LayerError: naming the package, if it cannot be imported or is no layer type.
    """
    for entry in _entries.pop(type_name, []):
        try:
            cls = _entry_class(entry)
            register(type_name)(cls)
        except LayerError:
            _entries.setdefault(type_name, []).append(entry)
            raise


def _entry_class(entry: EntryPoint) -> type[Layer]:
    from poseidon_caffe.layers.base import Layer

    package = entry.dist.name if entry.dist is not None else "an unnamed package"
    what = f'layer type "{entry.name}", entry point "{entry.value}" of {package}'
    try:
        found = entry.load()
    except Exception as error:  # whatever another package's module raises
        problem = f"{type(error).__name__}: {error}"
        msg = f"{what}: cannot be imported ({problem}); repair or uninstall {package}"
        raise LayerError(msg) from error
    if not (isinstance(found, type) and issubclass(found, Layer)):
        msg = f"{what}: must be a subclass of poseidon_caffe.layers.base.Layer"
        raise LayerError(f"{msg}, not {found!r}")
    return found


def known_types() -> list[str]:
    """All registered type names, sorted.

    Raises:
        LayerError: a package registers something that cannot be loaded.
    """
    _load()
    for name in list(_entries):
        _load_entries(name)
    return sorted(_classes)


def layer_class(type_name: str, *, where: str = "") -> type[Layer]:
    """The class of a type name.

    Raises:
        LayerError: naming the layer (``where``), a near match and all known types;
            or the package that registers the type and cannot be loaded.
    """
    _load()
    _load_entries(type_name)
    try:
        return _classes[type_name]
    except KeyError:
        names = sorted({*_classes, *_entries})
        # RELU is ReLU in other letters before it is close to ELU.
        same = [name for name in names if name.lower() == type_name.lower()]
        near = same or difflib.get_close_matches(type_name, names, n=1)
        hint = f'; did you mean "{near[0]}"?' if near else ""
        known = ", ".join(names)
        msg = (
            f'layer "{where}": unknown layer type "{type_name}"{hint} '
            f"(known types: {known})"
        )
        raise LayerError(msg) from None
