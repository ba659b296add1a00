"""What a parse error of protobuf means in terms of the prototxt.

protobuf says where and what; this adds the offending line, the close names, the
values of an enum, the block that was left open, and the mixups people make
between Caffe's old and new formats.
"""

from __future__ import annotations

import difflib
import re
from typing import Any

from poseidon_caffe.errors import ParseError
from poseidon_caffe.schema import messages, scan

__all__ = ["explain", "explain_escape", "explain_missing"]

_EXCERPT = 76
_NO_FIELD = re.compile(r'Message type "caffe\.(\S+)" has no field named "(.*)"')
_NO_VALUE = re.compile(
    r'Enum type "caffe\.(\S+)" has no value (?:named|with number) (.*?)\.?$'
)
_TWICE = re.compile(r'Message type "caffe\.(\S+)" should not have multiple "(\w+)"')
_PLAIN = (
    ("missing ending quote", "the string that starts here does not end on its line"),
    ("got }", "this '}' closes nothing: no block is open here"),
    ('Expected "{"', "a block '{ ... }' is expected here"),
    ('Expected ":"', "a ':' is expected here"),
    ("surrogates not allowed", "the string is not valid UTF-8: save the file as UTF-8"),
    ("can't decode byte", "the string is not valid UTF-8: save the file as UTF-8"),
    ("Couldn't parse integer", "a whole number is expected here"),
    ("Couldn't parse float", "a number is expected here"),
    ("Value out of range", "the value is out of the field's range"),
)
_NOT_STRING = re.compile(r"Expected string but found: (.*)")


def explain(error: Any, text: str, path: str) -> ParseError:
    """ParseError for protobuf's ``text_format.ParseError``.

    Args:
        error: protobuf's error.
        text: the whole text, line ends normalised.
        path: name of the file.
    """
    lines = text.split("\n")
    line = min(max(error.GetLine() or 1, 1), len(lines))
    column = max(error.GetColumn() or 1, 1)
    reason = _bare(str(error), lines[line - 1])
    offset = sum(len(each) + 1 for each in lines[: line - 1]) + column - 1
    still_open = scan.open_blocks(text)
    if 'Expected "}"' in reason and still_open:
        name = still_open[-1].name
        said = f"the block '{name} {{' that starts here is never closed with '}}'"
        return _located(said, text, path, *scan.position(text, still_open[-1].start))
    return _located(_interpret(reason, text, offset), text, path, line, column)


def explain_escape(text: str, offset: int, path: str) -> ParseError:
    """ParseError for a backslash at an offset that starts no escape sequence."""
    said = (
        f"'{text[offset : offset + 2]}' is no escape sequence: write '\\\\' for a "
        "backslash, or '/' in paths"
    )
    return _located(said, text, path, *scan.position(text, offset))


def explain_missing(missing: list[str], text: str, path: str) -> ParseError:
    """ParseError for required fields that are not given.

    Args:
        missing: protobuf's paths, ``layer[0].clip_param.max``.
        text: the whole text.
        path: name of the file.
    """
    owner, _, field = missing[0].rpartition(".")
    wanted = re.sub(r"(\w)(?=\.|$)", r"\1[0]", owner)
    for block, opened in scan.blocks(text):
        if opened and block.path == wanted:
            where = scan.position(text, block.start)
            said = f"'{block.name}' lacks its required field '{field}'"
            return _located(said, text, path, *where)
    names = ", ".join(missing)
    return ParseError(f"{path}: required fields are missing: {names}", path=path)


def _located(said: str, text: str, path: str, line: int, column: int) -> ParseError:
    excerpt = _excerpt(text.split("\n")[line - 1], column)
    whole = f"{path}:{line}:{column}: {said}\n{excerpt}"
    return ParseError(whole, path=path, line=line, column=column)


def _bare(said: str, line: str) -> str:
    """protobuf's message without the position and the line it quotes."""
    said = re.sub(r"^\d+:\d+ : ", "", said)
    return said.removeprefix(f"'{line}': ")


def _excerpt(line: str, column: int) -> str:
    """The line, cut to a width around the column, and a caret below."""
    line = "".join(c if c.isprintable() else " " for c in line)
    begin = max(0, min(column - _EXCERPT // 2, len(line) - _EXCERPT))
    caret = min(column - 1, len(line)) - begin
    return f"    {line[begin : begin + _EXCERPT]}\n    {' ' * caret}^"


def _interpret(reason: str, text: str, offset: int) -> str:
    """What protobuf's reason means; the plain ones are in ``_PLAIN``."""
    if found := _NO_FIELD.search(reason):
        return _unknown_field(found[1], found[2], text, offset)
    if found := _NO_VALUE.search(reason):
        return _unknown_value(found[1], found[2])
    if found := _TWICE.search(reason):
        return f"'{found[2]}' is given twice; {found[1]} takes one value"
    if found := _NOT_STRING.search(reason):
        return _not_string(found[1].strip("'\""), text, offset)
    if 'Expected ":"' in reason and text[offset : offset + 1] == "{":
        old = [block.name for block in scan.open_blocks(text, offset)] == ["layers"]
        hint = "; 'param {' belongs to 'layer {', not to the old 'layers {'" * old
        return f"a ':' and a value are expected, not a block{hint}"
    plain = reason[:1].lower() + reason[1:].rstrip(".")
    return next((said for words, said in _PLAIN if words in reason), plain)


def _unclosed(text: str, offset: int) -> str:
    """Names the innermost block open at an offset."""
    open_now = scan.open_blocks(text, offset)
    if not open_now:
        return ""
    line, column = scan.position(text, open_now[-1].start)
    return (
        f"; perhaps a '}}' is missing: '{open_now[-1].name} {{' of line {line}, "
        f"column {column} is still open"
    )


def _unknown_field(owner: str, name: str, text: str, offset: int) -> str:
    said = f"{owner} has no field '{name}'"
    if name in ("layer", "layers") and owner not in ("NetParameter", "SolverParameter"):
        return said + _unclosed(text, offset)
    fields = list(messages.message_class(owner).DESCRIPTOR.fields_by_name)
    mixup = _mixup(owner, name)
    if mixup:
        return f"{said}: {mixup}"
    close = difflib.get_close_matches(name, fields, n=3, cutoff=0.6)
    if close:
        return f"{said}; did you mean {_either(close)}?"
    homes = [f"'{field}'" for field in fields if _has_field(owner, field, name)]
    if homes:
        several = ", ".join(homes[:4]) + (", ..." if len(homes) > 4 else "")
        return f"{said}; '{name}' belongs inside {several}"
    several = ", ".join(fields[:12]) + (", ..." if len(fields) > 12 else "")
    return f"{said}; it has {several}"


def _has_field(owner: str, field: str, name: str) -> bool:
    inner = messages.message_class(owner).DESCRIPTOR.fields_by_name[field].message_type
    return inner is not None and name in inner.fields_by_name


def _mixup(owner: str, name: str) -> str:
    """Advice for a field that is right elsewhere: old format, or the other file."""
    if owner == "LayerParameter" and name in ("blobs_lr", "weight_decay"):
        new = "lr_mult" if name == "blobs_lr" else "decay_mult"
        return (
            f"'{name}' belongs to the old format 'layers {{'; in 'layer {{' write "
            f"'param {{ {new}: ... }}'"
        )
    if owner == "V1LayerParameter" and _knows("LayerParameter", name):
        return f"'layers {{' is the old format; '{name}' belongs to 'layer {{'"
    if owner == "SolverParameter" and _knows("NetParameter", name):
        return "this looks like a net, where a solver is expected"
    if owner == "NetParameter" and _knows("SolverParameter", name):
        return "this looks like a solver, where a net is expected"
    return ""


def _knows(owner: str, name: str) -> bool:
    return name in messages.message_class(owner).DESCRIPTOR.fields_by_name


def _unknown_value(enum: str, value: str) -> str:
    known = messages.enum_type(enum).keys()
    bare = value.strip("'\"")
    if bare != value and bare in known:
        return f"values of {enum} are written without quotes: {bare}"
    value = bare
    if enum == "V1LayerParameter.LayerType":
        known = sorted(known)
        flat = value.replace("_", "").upper()
        if any(flat == each.replace("_", "") for each in known) or not value.isupper():
            return (
                f"'{value}' is no layer type of the old format 'layers {{'; "
                f"new types are written 'layer {{ type: \"{value}\" }}'"
            )
    close = difflib.get_close_matches(value.upper(), known, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"{enum} has no value '{value}'{hint} (known: {', '.join(known)})"


def _not_string(value: str, text: str, offset: int) -> str:
    blocks = [block.name for block in scan.open_blocks(text, offset)]
    old_types = messages.enum_type("V1LayerParameter.LayerType").keys()
    if blocks == ["layer"] and value in old_types:
        return (
            f"a quoted string is expected; {value} is a type of the old format, whose "
            "layers are written 'layers {', not 'layer {'"
        )
    if re.fullmatch(r"[\w./-]+", value):
        return f'a quoted string is expected: "{value}"'
    return f"a quoted string is expected, found '{value}'"


def _either(names: list[str]) -> str:
    return " or ".join(f"'{name}'" for name in names)
