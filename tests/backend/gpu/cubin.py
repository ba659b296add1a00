"""What each kernel of compiled CUDA code takes of a processor, read from its ELF."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

SYMBOLS = 2
"""The type of ELF's section of symbols."""
WITH_SIZE, REGISTERS = 4, 0x2F
"""Of .nv.info: an attribute with a size, and EIATTR_REGCOUNT: (symbol, count)."""


class Section(NamedTuple):
    name: str
    type: int
    at: int
    size: int
    link: int


def _text(code: bytes, at: int) -> str:
    return code[at : code.index(b"\0", at)].decode()


def _sections(code: bytes) -> list[Section]:
    (start,) = struct.unpack_from("<Q", code, 0x28)
    size, count, names = struct.unpack_from("<HHH", code, 0x3A)
    rows = [
        struct.unpack_from("<IIQQQQII", code, start + i * size) for i in range(count)
    ]
    strings = rows[names][4]
    return [
        Section(_text(code, strings + row[0]), row[1], row[4], row[5], row[6])
        for row in rows
    ]


def _attributes(code: bytes, section: Section) -> Iterator[tuple[int, bytes]]:
    at = section.at
    while at < section.at + section.size:
        form, kind, size = struct.unpack_from("<BBH", code, at)
        at += 4
        if form == WITH_SIZE:
            yield kind, code[at : at + size]
            at += size


def registers(code: bytes) -> dict[str, int]:
    """Registers of a thread, by the names of the kernels."""
    sections = _sections(code)
    symbols = next(each for each in sections if each.type == SYMBOLS)
    strings = sections[symbols.link].at

    def name(number: int) -> str:
        (offset,) = struct.unpack_from("<I", code, symbols.at + 24 * number)
        return _text(code, strings + offset)

    info = next(each for each in sections if each.name == ".nv.info")
    found = {}
    for kind, value in _attributes(code, info):
        if kind == REGISTERS:
            number, count = struct.unpack("<II", value)
            found[name(number)] = count
    return found
