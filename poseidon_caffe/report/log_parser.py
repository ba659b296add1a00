"""A training log as tables: what the nets printed, by iteration and by time.

Caffe's tools/extra/parse_log.py says what a row is; see `parse_log`.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Final

from poseidon_caffe.errors import ParseError, UsageError
from poseidon_caffe.report.log_lines import (
    Clock,
    Output,
    iteration_of,
    leap_day,
    output_of,
    rate_of,
)
from poseidon_caffe.schema.atomic import atomic_write
from poseidon_caffe.schema.files import StrPath, is_binary, load

__all__ = ["ParsedLog", "Point", "Row", "parse_log", "parse_log_text", "write_tables"]

_COLUMNS: Final = ("NumIters", "Seconds", "LearningRate")
_START: Final = "Solving"


@dataclass(frozen=True)
class Point:
    """One number and when it was printed.

    Attributes:
        iteration: the last one named.
        seconds: since the first line that says "Solving".
        value: the number.
    """

    iteration: float
    seconds: float
    value: float


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        iteration: its iteration.
        seconds: when its first output was printed, since "Solving".
        learning_rate: the last one told before it; NaN when none was.
        outputs: value of each output by name, in the order printed.
    """

    iteration: float
    seconds: float
    learning_rate: float
    outputs: dict[str, float]


@dataclass(frozen=True)
class ParsedLog:
    """What a log tells.

    Attributes:
        train: rows of the training net's outputs.
        test: rows of the test nets' outputs.
        losses: the smoothed training loss of each display.
        rates: the learning rate of each display.
    """

    train: tuple[Row, ...]
    test: tuple[Row, ...]
    losses: tuple[Point, ...]
    rates: tuple[Point, ...]


@dataclass
class _Table:
    """Collects rows as Caffe's script does: a full one ends where it is full."""

    rows: list[Row] = field(default_factory=list)
    row: Row | None = None

    def take(self, at: Point, output: Output) -> None:
        """Add one output, printed at ``at`` with that learning rate."""
        if self.row is None or self.row.iteration != at.iteration:
            if self.row is not None:
                self.rows.append(self.row)
            self.row = Row(at.iteration, at.seconds, at.value, {})
        self.row.outputs[output.name] = output.value
        if self.rows and len(self.row.outputs) == len(self.rows[0].outputs):
            self.rows.append(self.row)
            self.row = None

    def finish(self, rate: float) -> tuple[Row, ...]:
        """All rows; the first gets the rate that was told only after it.

        A last row that lacks outputs (an interrupted log) is left out.  Caffe's
        script also leaves out a row that is the only one; here it stays.
        """
        if not self.rows and self.row is not None:
            return (replace(self.row, learning_rate=rate),)
        if len(self.rows) > 1:
            second = self.rows[1].learning_rate
            self.rows[0] = replace(self.rows[0], learning_rate=second)
        return tuple(self.rows)


@dataclass
class _Reader:
    """Reads lines one after the other."""

    start: datetime
    clock: Clock
    iteration: float = -1
    rate: float = math.nan
    train: _Table = field(default_factory=_Table)
    test: _Table = field(default_factory=_Table)
    losses: list[Point] = field(default_factory=list)
    rates: list[Point] = field(default_factory=list)

    def read(self, line: str) -> None:
        """Take what ``line`` tells; without a valid time it tells nothing more."""
        named = iteration_of(line)
        self.iteration = self.iteration if named is None else named
        if self.iteration < 0:
            return
        moment = self.clock.read(line)
        if moment is None:
            return
        seconds = (moment - self.start).total_seconds()
        rate = rate_of(line)
        if rate is not None:
            self.rate = rate
            self.rates.append(Point(self.iteration, seconds, rate))
        output = output_of(line)
        if output is None:
            return
        if not output.name:
            self.losses.append(Point(self.iteration, seconds, output.value))
            return
        table = self.test if output.test else self.train
        table.take(Point(self.iteration, seconds, self.rate), output)


def parse_log(path: StrPath) -> ParsedLog:
    """Tables of a log file, of Caffe's or Poseidon's training.

    Caffe parity: rows, columns and numbers are those of tools/extra/parse_log.py.
    Beyond it, NaN and infinite outputs are kept, a table may have one row only,
    and the year may stand in the date.

    Raises:
        ParseError: no such file, no text, no start time, or no iteration in it.
    """
    name = os.fspath(path)
    data = load(name, "training log")
    if is_binary(data):
        raise ParseError(f"{name}: this is no text, so no training log", path=name)
    # The file's time tells the year that the lines of old logs do not.
    year = datetime.fromtimestamp(Path(name).stat().st_ctime).year  # noqa: DTZ006
    return parse_log_text(data.decode("utf-8", errors="replace"), name, year)


def parse_log_text(text: str, name: str = "<log>", year: int = 2000) -> ParsedLog:
    """As `parse_log`, of a text.

    Args:
        text: the log.
        name: the file's, for messages.
        year: of its beginning, where the lines tell none.

    Raises:
        ParseError: no start time, or no iteration in it.
    """
    if leap_day(text):
        year -= year % 4
    clock = Clock(year)
    lines = iter(text.splitlines())
    start = next(
        (at for line in lines if _START in line and (at := clock.read(line))), None
    )
    if start is None:
        raise ParseError(
            f"{name}: no start time: a training log has a line such as 'I1122 "
            f"15:16:09.595388  2390 solver.cpp:289] {_START} LeNet' before its first "
            "iteration",
            path=name,
        )
    reader = _Reader(start, clock)
    for line in lines:
        reader.read(line)
    if reader.iteration < 0:
        raise ParseError(
            f"{name}: no iteration in it: the training ended (or this log was cut "
            f"off) before it came to one after its '{_START}' line",
            path=name,
        )
    return ParsedLog(
        train=reader.train.finish(reader.rate),
        test=reader.test.finish(reader.rate),
        losses=tuple(reader.losses),
        rates=tuple(reader.rates),
    )


def write_tables(
    log: ParsedLog, path: StrPath, folder: StrPath, delimiter: str = ","
) -> list[str]:
    """Writes ``folder/NAME.train`` and ``folder/NAME.test``, NAME that of ``path``.

    Caffe parity: the header's names, Python's shortest form of each number and
    CR LF at the end of lines, as the csv module of Python writes them.  A column
    that the first row lacks comes behind the others (Caffe's script fails).

    Args:
        log: what is written.
        path: of the log.
        folder: must exist.
        delimiter: the one character between columns.

    Returns:
        One line for each table: that it was written, or that it has no lines.

    Raises:
        UsageError: ``delimiter`` is not one character.
        SnapshotError: the disk refused.
    """
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise UsageError(
            f"--delimiter: expected one character that is no quote and no line end, "
            f"received {delimiter!r}"
        )
    said = []
    for kind, rows in (("train", log.train), ("test", log.test)):
        target = Path(folder, f"{Path(path).name}.{kind}")
        if rows:
            atomic_write(target, _csv(rows, delimiter).encode())
            said.append(f"Wrote {target}")
        else:
            said.append(f"Not writing {target}; no lines to write")
    return said


def _csv(rows: Sequence[Row], delimiter: str) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row.outputs))
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerow([*_COLUMNS, *names])
    for row in rows:
        values = [row.outputs.get(name, "") for name in names]
        writer.writerow([row.iteration, row.seconds, row.learning_rate, *values])
    return text.getvalue()
