"""Makes wrong input of right input: bytes, words of a text, fields of a message."""

from __future__ import annotations

import random
import re
from typing import Any

from google.protobuf.descriptor import FieldDescriptor as Field

__all__ = ["mutate_bytes", "mutate_message", "mutate_text"]

NUMBERS = (
    *(-1, 0, 1, 2, 3, 5, 7, 17, 33, 100),
    *(2**31 - 1, -(2**31), 2**31, 2**32, 2**62, 2**63 - 1, -(2**63), 2**63, 2**64),
    *(10**12, 10**30),
)
REALS = ("nan", "inf", "-inf", "1e308", "-1e-40", "0.5", "-0", "1e", "0x10", "1.5f")
WORDS = (
    *("true", "false", "MAX", "AVE", "STOCHASTIC", "SUM", "PROD", "TRAIN", "TEST"),
    *("{", "}", ":", ";", "[", "]", "<", ">", ",", "#", '"', "'", '""', '"x"', "-"),
    *("layer", "type", "name", "bottom", "top", "shape", "dim", "axis", "kernel_h"),
    *('"\\377"', '"\\0"', '"\udcff"', '"\N{SNOWMAN}"', "\x0b", "\ufeff", "{" * 400),
)
TOKEN = re.compile(r'"[^"\n]*"|[\w.+-]+|\S')
WIDE = (Field.TYPE_INT64, Field.TYPE_UINT64, Field.TYPE_SINT64)


def mutate_bytes(data: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, cut, doubled or put in, most often near the beginning."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        length = max(len(out), 1)
        at = rng.randrange(min(length, rng.choice((64, 4096, length))) or 1)
        size = rng.choice((1, 1, 2, 4, 8, 64))
        kind = rng.randrange(6)
        if kind == 0 and out:
            out[min(at, len(out) - 1)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at : at + size] = rng.randbytes(size)
        elif kind == 2:
            out[at : at + size] = rng.choice((b"\xff", b"\x00", b"\x80")) * size
        elif kind == 3:
            del out[at : at + size]
        elif kind == 4:
            out[at:at] = out[at : at + size]
        elif rng.randrange(4) == 0:
            del out[at:]
    return bytes(out)


def mutate_text(text: str, rng: random.Random) -> str:
    """Some words changed, taken out, doubled, moved or put in."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        words = list(TOKEN.finditer(text))
        if not words:
            return text
        word, other = rng.choice(words), rng.choice(words)
        numbers = [each for each in words if re.match(r"[-\d.]", each[0])]
        kind = rng.randrange(10)
        if kind <= 5 and numbers:
            word, new = rng.choice(numbers), _number(rng)
        elif kind == 6:
            new = ""
        elif kind == 7:
            new = f"{word[0]} {word[0]}"
        elif kind == 8:
            new = other[0]
        else:
            new = rng.choice((*WORDS, _number(rng)))
        text = text[: word.start()] + new + text[word.end() :]
    if rng.randrange(12) == 0:
        text = text[: rng.randrange(len(text) + 1)]
    return text


def _number(rng: random.Random) -> str:
    return rng.choice(REALS) if rng.randrange(4) == 0 else str(rng.choice(NUMBERS))


def mutate_message(message: Any, rng: random.Random) -> None:
    """A field somewhere inside changed, cleared, doubled or cut, in place."""
    inside = [message, *_below(message)]
    for _ in range(rng.choice((1, 1, 2, 4))):
        each = rng.choice(inside)
        fields = list(each.DESCRIPTOR.fields)
        held = [field for field, _ in each.ListFields()]
        field = rng.choice(held if held and rng.randrange(4) else fields)
        if field.message_type is not None:
            _change_submessage(each, field, rng)
        elif field.is_repeated:
            _change_repeated(getattr(each, field.name), field, rng)
        elif rng.randrange(5) == 0:
            each.ClearField(field.name)
        else:
            setattr(each, field.name, _value(field, rng))


def _below(message: Any) -> list[Any]:
    found = []
    for field, value in message.ListFields():
        if field.message_type is not None:
            for item in value if field.is_repeated else (value,):
                found += [item, *_below(item)]
    return found


def _change_submessage(message: Any, field: Any, rng: random.Random) -> None:
    value = getattr(message, field.name)
    if not field.is_repeated:
        if rng.randrange(3):
            value.SetInParent()
        else:
            message.ClearField(field.name)
    elif len(value) and rng.randrange(2):
        del value[rng.randrange(len(value))]
    elif len(value):
        value.add().CopyFrom(rng.choice(list(value)))
    else:
        value.add()


def _change_repeated(values: Any, field: Any, rng: random.Random) -> None:
    kind = rng.randrange(4)
    if kind == 0 and len(values):
        del values[rng.randrange(len(values)) :]
    elif kind == 1 and len(values):
        values[rng.randrange(len(values))] = _value(field, rng)
    elif kind == 2:
        values.extend(list(values)[:2])
    else:
        values.append(_value(field, rng))


def _value(field: Any, rng: random.Random) -> Any:
    if field.enum_type is not None:
        return rng.choice([value.number for value in field.enum_type.values])
    if field.type == Field.TYPE_STRING:
        return rng.choice(("", "x", "\N{SNOWMAN}", "../..", "a\nb", "\x00", "9" * 300))
    if field.type == Field.TYPE_BYTES:
        return rng.choice((b"", b"\xff", bytes(7), b"\x89PNG\r\n\x1a\n"))
    if field.type == Field.TYPE_BOOL:
        return bool(rng.randrange(2))
    if field.type in (Field.TYPE_FLOAT, Field.TYPE_DOUBLE):
        choice = (0.0, -1.0, 0.5, 1e30, -1e-40, float("nan"), float("inf"))
        return rng.choice(choice)
    bits = 64 if field.type in WIDE else 32
    signed = field.cpp_type in (Field.CPPTYPE_INT32, Field.CPPTYPE_INT64)
    low, high = (
        (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    )
    return min(max(rng.choice(NUMBERS), low), high)
