"""An error told to a person: one clear line, hints below, an exit code."""

from __future__ import annotations

import os
import sys
import textwrap
import traceback
from dataclasses import dataclass
from typing import Final

from poseidon_caffe.errors import PoseidonError
from poseidon_caffe.report import tags
from poseidon_caffe.report.glog import Glog

__all__ = ["FAILED", "INTERRUPTED", "PIPE_CLOSED", "Explanation", "explain", "tell"]

FAILED: Final = 1
INTERRUPTED: Final = 130  # as shells count: 128 + SIGINT
PIPE_CLOSED: Final = 141  # 128 + SIGPIPE


@dataclass(frozen=True)
class Explanation:
    """What is said of an error.

    Attributes:
        message: one line: what, where, expected and received.
        hints: further lines: more findings, what to do.
    """

    message: str
    hints: tuple[str, ...] = ()


def explain(error: BaseException) -> Explanation:
    """Put ``error`` into words; unknown kinds keep their place in the source."""
    if isinstance(error, PoseidonError):
        first, *rest = str(error).splitlines() or [type(error).__name__]
        return Explanation(first, (*rest, *_notes(error)))
    if isinstance(error, KeyboardInterrupt):
        return Explanation("interrupted")
    if isinstance(error, MemoryError):
        detail = f": {error}" if str(error) else ""
        return Explanation(f"out of memory{detail}", ("try a smaller batch_size",))
    if isinstance(error, OSError) and error.strerror:
        where = f": {error.filename}" if error.filename else ""
        return Explanation(f"{error.strerror}{where}")
    first, *rest = str(error).splitlines() or [""]
    named = f"{type(error).__name__}: {first}" if first else type(error).__name__
    hint = "add --debug to see the whole traceback"
    return Explanation(named, (*rest, *_notes(error), *_place(error), hint))


def _notes(error: BaseException) -> tuple[str, ...]:
    """What was added to ``error`` on its way up: the layer whose code raised it."""
    notes = getattr(error, "__notes__", ())
    return tuple(line for note in notes for line in str(note).splitlines())


def _place(error: BaseException) -> tuple[str, ...]:
    """The innermost line of source that ``error`` came from."""
    if isinstance(error, SyntaxError) and error.filename and error.text:
        # The frames are those of the import, not of the file that cannot be read.
        return (f'at {error.filename}:{error.lineno}: "{error.text.strip()}"',)
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return ()
    last = frames[-1]
    return (f'at {last.filename}:{last.lineno} in {last.name}: "{last.line}"',)


def tell(
    log: Glog, error: BaseException, *, debug: bool = False, hints: tuple[str, ...] = ()
) -> int:
    """Write ``error`` to the log as a FATAL line.

    Args:
        log: where to.
        error: what went wrong.
        debug: write the traceback above it.
        hints: what else to say below it.

    Returns:
        The exit code: 130 when interrupted, 141 (silently) when the reader of the
        output has gone, else 1.
    """
    if isinstance(error, BrokenPipeError):
        _silence()
        return PIPE_CLOSED
    told = explain(error)
    try:
        if debug:
            trace = "".join(traceback.format_exception(error)).rstrip()
            log.error(tags.POSEIDON, trace)
        # A caret below an excerpt must keep its place: dedent them together.
        below = textwrap.dedent("\n".join(told.hints)).splitlines()
        lines = [f"poseidon: error: {told.message}"]
        lines += [f"    {line.rstrip()}" for line in (*below, *hints)]
        log.fatal(tags.POSEIDON, "\n".join(lines))
    except BrokenPipeError:
        _silence()
        return PIPE_CLOSED
    return INTERRUPTED if isinstance(error, KeyboardInterrupt) else FAILED


def _silence() -> None:
    """Send what is still buffered nowhere, or Python complains as it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            os.dup2(nowhere, stream.fileno())
        except (OSError, ValueError, AttributeError):  # no real file behind it
            continue
    os.close(nowhere)
