"""Caffe's message classes, built from ``caffe.desc`` in a private pool.

The pool is private because generated modules collide with any other package
that ships a ``caffe.proto`` ("duplicate file name"), and because generated code
insists on a protobuf runtime at least as new as the compiler.

Every message and enum of ``proto/caffe.proto`` is an attribute of this module,
made when it is first asked for::

    from poseidon_caffe.schema.messages import NetParameter, Phase, TRAIN

They are ``Any`` to the type checker, in calls and in annotations alike.
"""

from __future__ import annotations

import difflib
import functools
import importlib.resources
from collections.abc import Iterator
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.internal import enum_type_wrapper

from poseidon_caffe.errors import PoseidonError

__all__ = [
    "FIRST_DIALECT_NUMBER",
    "TEST",
    "TRAIN",
    "dialect_fields",
    "enum_name",
    "enum_type",
    "message_class",
    "message_names",
]

TRAIN = 0
"""Value of ``Phase.TRAIN``."""
TEST = 1
"""Value of ``Phase.TEST``."""
FIRST_DIALECT_NUMBER = 10001
"""Fields numbered from here on are the forks', not Caffe 1.0's."""


@functools.cache
def _file() -> Any:
    """The file descriptor of ``caffe.proto``, loaded once into its own pool."""
    source = importlib.resources.files(__package__).joinpath("caffe.desc")
    try:
        data = source.read_bytes()
    except OSError as error:
        raise PoseidonError(
            f"{source}: the compiled schema is missing ({error.strerror}); it is made "
            "from proto/caffe.proto when the package is built: run `make install`"
        ) from error
    pool = descriptor_pool.DescriptorPool()
    for proto in descriptor_pb2.FileDescriptorSet.FromString(data).file:
        pool.AddSerializedFile(proto.SerializeToString())
    return pool.FindFileByName("caffe.proto")


def message_names() -> list[str]:
    """Names of all top-level messages, in the order of ``caffe.proto``."""
    return list(_file().message_types_by_name)


@functools.cache
def message_class(name: str) -> Any:
    """Class of a message by its name, ``"NetParameter"`` or nested ``"A.B"``.

    Raises:
        AttributeError: there is no such message; the closest names are given.
    """
    first, *rest = name.removeprefix("caffe.").split(".")
    try:
        descriptor = _file().message_types_by_name[first]
        for part in rest:
            descriptor = descriptor.nested_types_by_name[part]
    except KeyError:
        raise AttributeError(_unknown("message", name, message_names())) from None
    return message_factory.GetMessageClass(descriptor)


@functools.cache
def enum_type(name: str) -> Any:
    """Enum by its name, ``"Phase"`` or ``"PoolingParameter.PoolMethod"``.

    The result has protobuf's enum methods (``Name``, ``Value``, ``keys``) and
    one attribute a value.
    """
    owner, _, last = name.removeprefix("caffe.").rpartition(".")
    holder = message_class(owner).DESCRIPTOR if owner else _file()
    try:
        return enum_type_wrapper.EnumTypeWrapper(holder.enum_types_by_name[last])
    except KeyError:
        known = list(holder.enum_types_by_name)
        raise AttributeError(_unknown("enum", name, known)) from None


def enum_name(message: Any, field: str) -> str:
    """Name of the value that an enum field of a message holds, as ``"MAX"``.

    The field's default counts when it is not set.
    """
    descriptor = message.DESCRIPTOR.fields_by_name[field]
    number = getattr(message, field)
    return str(descriptor.enum_type.values_by_number[number].name)


def dialect_fields(message: Any, prefix: str = "") -> Iterator[str]:
    """Dotted paths of the fields set in a message that only forks of Caffe know.

    For messages that say which of them take no effect.  Repeated fields are
    named once per element that holds some: ``layer[3].quantization_param``.
    """
    for field, value in message.ListFields():
        path = prefix + field.name
        if field.number >= FIRST_DIALECT_NUMBER:
            yield path
        elif field.message_type is None:
            continue
        elif field.is_repeated:
            for index, item in enumerate(value):
                yield from dialect_fields(item, f"{path}[{index}].")
        else:
            yield from dialect_fields(value, f"{path}.")


def _unknown(kind: str, name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=3)
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    return f"caffe.proto has no {kind} '{name}'{hint}"


def __getattr__(name: str) -> Any:
    """Messages and enums by name, made on first use and then kept."""
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: Any
    if name in _file().enum_types_by_name:
        found = enum_type(name)
    else:
        found = message_class(name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return [*globals(), *message_names(), *_file().enum_types_by_name]
