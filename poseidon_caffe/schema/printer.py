"""Messages as prototxt, in the style that Caffe's own tools print."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from typing import Any

from google.protobuf import text_encoding
from google.protobuf.descriptor import FieldDescriptor as Field

__all__ = ["float_text", "to_prototxt"]


def to_prototxt(message: Any) -> str:
    """Text of a message: one field a line, two blanks a level, short floats.

    Fields stand in the order of their numbers.  A float32 is printed with the
    fewest digits that give it back: ``0.1``, not ``0.10000000149011612`` (the C++
    printer does so too, the Python one does not).
    """
    return "".join(_lines(message, ""))


def float_text(value: float, *, double: bool = False) -> str:
    """Shortest of the ``%g`` forms that gives a float32 (or double) back."""
    if math.isnan(value):
        return "nan"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    kind, digits = ("d", range(15, 18)) if double else ("f", range(6, 10))
    wanted = struct.pack(kind, value)
    for precision in digits:
        text = f"{value:.{precision}g}"
        if struct.pack(kind, float(text)) == wanted:
            break
    return text


def _lines(message: Any, indent: str) -> Iterator[str]:
    for field, value in message.ListFields():
        for item in value if field.is_repeated else (value,):
            if field.message_type is None:
                yield f"{indent}{field.name}: {_scalar(field, item)}\n"
            else:
                yield f"{indent}{field.name} {{\n"
                yield from _lines(item, indent + "  ")
                yield f"{indent}}}\n"


def _scalar(field: Any, value: Any) -> str:
    if isinstance(value, float):
        return float_text(value, double=field.type == Field.TYPE_DOUBLE)
    if isinstance(value, bool):
        return "true" if value else "false"
    if field.type in (Field.TYPE_STRING, Field.TYPE_BYTES):
        return f'"{text_encoding.CEscape(value, field.type == Field.TYPE_STRING)}"'
    if field.enum_type is not None:
        return str(field.enum_type.values_by_number[value].name)
    return str(value)
