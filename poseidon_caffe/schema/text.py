"""Prototxt read and written.

Errors are ParseErrors of the form ``file:line:column: message`` followed by the
offending line and a caret, with a guess at what was meant.
"""

from __future__ import annotations

import os
from typing import Any

from google.protobuf import text_format

from poseidon_caffe.errors import ParseError
from poseidon_caffe.schema import scan
from poseidon_caffe.schema.files import StrPath, is_binary, load, sniff
from poseidon_caffe.schema.printer import to_prototxt
from poseidon_caffe.schema.text_errors import explain, explain_escape, explain_missing

__all__ = ["parse_prototxt", "read_prototxt", "to_prototxt"]


def read_prototxt(path: StrPath, message_class: Any) -> Any:
    """Message in a prototxt file.

    Args:
        path: the file.
        message_class: e.g. ``messages.NetParameter``.

    Raises:
        ParseError: the file is missing, is no text, or does not parse.
    """
    name = os.fspath(path)
    data = load(name, "prototxt")
    if is_binary(data):
        raise ParseError(_not_text(name, data), path=name)
    # Comments in any encoding are harmless; only strings must be UTF-8.
    text = data.decode("utf-8", errors="surrogateescape")
    return parse_prototxt(text, message_class, path=name)


def parse_prototxt(text: str, message_class: Any, path: str = "<string>") -> Any:
    """Message in a prototxt text; ``path`` is the name that errors give it.

    A byte order mark and any kind of line end are accepted.

    Raises:
        ParseError: the text does not parse, or lacks a required field.
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    message = message_class()
    if "\\" in text and (offset := scan.bad_escape(text)) is not None:
        # C++ readers refuse these; Python's only warns, without a place.
        raise explain_escape(text, offset, path)
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        raise explain(error, text, path) from None
    except (ValueError, RecursionError, SystemError) as error:
        # Bytes that are no UTF-8, which the tokenizer does not foresee; asked for such
        # a name protobuf's C tables fail with a SystemError around the real one.
        said = f"{path}: this is no valid prototxt: {error.__cause__ or error}"
        raise ParseError(said, path=path) from None
    missing = message.FindInitializationErrors()
    if missing:
        raise explain_missing(missing, text, path)
    return message


def _not_text(name: str, data: bytes) -> str:
    kind = sniff(data) or "a binary file, perhaps a .caffemodel or .solverstate"
    return (
        f"{name}: a prototxt (text) is expected, but this is {kind} of {len(data)} "
        "bytes; weights go into --weights, solver states into --snapshot"
    )
