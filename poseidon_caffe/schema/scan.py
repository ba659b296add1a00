"""A light scan of prototxt text: which blocks are open where.

Used only to explain errors: it never fails, whatever the text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Block", "bad_escape", "blocks", "open_blocks", "position"]

_TOKEN = re.compile(
    r"""\s+ | \#[^\n]* | "(?:\\.|[^"\\\n])*"? | '(?:\\.|[^'\\\n])*'?
        | [{}<>] | [^\s\#"'{}<>]+""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(?:[abfnrtvxuU\\'\"]|[0-3][0-7]{0,2}|[4-7][0-7]?(?![0-7]))?")


@dataclass(frozen=True, eq=False)
class Block:
    """One ``name {`` of a text.

    Attributes:
        name: the field, ``clip_param``; empty where a brace has none.
        index: how many of that name stand before it in the same block.
        start: offset of the name.
        parent: the block around it, or None.
    """

    name: str
    index: int
    start: int
    parent: Block | None

    @property
    def path(self) -> str:
        """Dotted path with indices, ``layer[2].clip_param[0]``."""
        parts = []
        block: Block | None = self
        while block is not None:
            parts.append(f"{block.name}[{block.index}]")
            block = block.parent
        return ".".join(reversed(parts))


def blocks(text: str, end: int | None = None) -> Iterator[tuple[Block, bool]]:
    """Blocks of ``text[:end]`` in order: (block, True) at ``{``, False at ``}``."""
    block: Block | None = None
    counts: list[Counter[str]] = [Counter()]  # names seen, one counter a level
    name, start = "", 0
    for match in _TOKEN.finditer(text, 0, len(text) if end is None else end):
        token = match.group()
        if token in ("{", "<"):
            label = name.rstrip(":")
            where = start if name else match.start()
            block = Block(label, counts[-1][label], where, block)
            counts[-1][label] += 1
            counts.append(Counter())
            name = ""
            yield block, True
        elif token in ("}", ">"):
            name = ""
            if block is not None:
                yield block, False
                counts.pop()
                block = block.parent
        elif not token.isspace() and token[0] not in ":#":
            name, start = token, match.start()


def open_blocks(text: str, end: int | None = None) -> list[Block]:
    """Blocks still open at offset ``end`` (default: the end), outermost first."""
    stack: list[Block] = []
    for block, opened in blocks(text, end):
        if opened:
            stack.append(block)
        else:
            stack.pop()
    return stack


def bad_escape(text: str) -> int | None:
    """Offset of the first backslash in a string that starts no escape, or None."""
    for match in _TOKEN.finditer(text):
        if match.group()[0] in "\"'" and "\\" in match.group():
            for escape in _ESCAPE.finditer(match.group()):
                if escape.group() == "\\":
                    return match.start() + escape.start()
    return None


def position(text: str, offset: int) -> tuple[int, int]:
    """1-based line and column of an offset."""
    line_start = text.rfind("\n", 0, offset) + 1
    return text.count("\n", 0, offset) + 1, offset - line_start + 1
