"""Messages as prototxt text: short ones on one line, long ones indented."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

__all__ = ["Message", "Value", "Word", "message", "render"]

LINE_COLUMNS = 80


class Word(str):
    """An enum's name: written bare, where other strings are quoted."""

    __slots__ = ()


@dataclass(frozen=True)
class Message:
    """Fields in the order they are written; a repeated field comes repeatedly."""

    fields: tuple[tuple[str, Value], ...]


Scalar = bool | int | float | str
Value = Scalar | Message


def message(**fields: Value | Sequence[Value] | None) -> Message:
    """Make a message; sequences become repeated fields, ``None`` is left out."""
    flat: list[tuple[str, Value]] = []
    for name, value in fields.items():
        if value is None:
            continue
        if isinstance(value, (list, tuple)):
            flat.extend((name, item) for item in value)
        else:
            flat.append((name, value))  # type: ignore[arg-type]
    return Message(tuple(flat))


def render(top: Message) -> str:
    """The prototxt text of ``top``, ending in a newline.

    Nested messages that fit on a line of 80 columns stand on one line, except
    those of the first level (layers), which always get their own lines.
    """
    return "\n".join(_lines(top, depth=0)) + "\n"


def _lines(outer: Message, depth: int) -> Iterator[str]:
    indent = "  " * depth
    for name, value in outer.fields:
        if not isinstance(value, Message):
            yield f"{indent}{name}: {_scalar(value)}"
            continue
        short = f"{indent}{name} {_inline(value)}"
        if depth > 0 and len(short) <= LINE_COLUMNS:
            yield short
        else:
            yield f"{indent}{name} {{"
            yield from _lines(value, depth + 1)
            yield f"{indent}}}"


def _inline(value: Message) -> str:
    parts = [
        f"{name} {_inline(item)}"
        if isinstance(item, Message)
        else f"{name}: {_scalar(item)}"
        for name, item in value.fields
    ]
    return "{ " + " ".join(parts) + " }"


def _scalar(value: Scalar) -> str:
    if isinstance(value, Word):
        return str(value)
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.10g}"
