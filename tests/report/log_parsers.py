"""The well-known log parsers, rewritten from what they are documented to do.

Each function reads a log as the program of its name does: Caffe's parse_log.py,
extract_seconds.py and parse_log.sh (fields split at blanks), and NVIDIA DIGITS.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime

__all__ = ["Digits", "Table", "digits", "parse_log_py", "parse_log_sh", "seconds"]

_OUTPUT = r"net output #(\d+): (\S+) = (\S+)"


@dataclass
class Table:
    """Rows by iteration; each a dict of column to number."""

    train: dict[int, dict[str, float]] = field(default_factory=dict)
    test: dict[int, dict[str, float]] = field(default_factory=dict)


def timestamp(line: str, year: int) -> datetime:
    """The time of a line as extract_seconds.py takes it apart by position."""
    words = line.split()
    month, day = int(words[0][1:3]), int(words[0][3:5])
    hour, minute, second = words[1].split(":")
    whole, micros = second.split(".")
    return datetime(  # noqa: DTZ001 - the log has none
        year, month, day, int(hour), int(minute), int(whole), int(micros)
    )


def seconds(text: str, year: int = 2026) -> list[float]:
    """Seconds since "Solving" of each line with "Iteration"."""
    lines = text.splitlines()
    starts = [line for line in lines if "Solving" in line]
    assert starts, "Start time not found"
    start = timestamp(starts[0], year)
    return [
        (timestamp(line, year) - start).total_seconds()
        for line in lines
        if "Iteration" in line
    ]


def parse_log_py(text: str) -> Table:
    """parse_log.py's two tables."""
    table = Table()
    iteration, rate = -1, float("nan")
    for line in text.splitlines():
        found = re.search(r"Iteration (\d+)", line)
        if found:
            iteration = int(found[1])
        if iteration < 0:
            continue
        found = re.search(r"lr = ([-+]?[0-9]*\.?[0-9]+([eE]?[-+]?[0-9]+)?)", line)
        if found:
            rate = float(found[1])
            table.train.setdefault(iteration, {})["LearningRate"] = rate
        for kind, rows in (("Train", table.train), ("Test", table.test)):
            found = re.search(rf"{kind} {_OUTPUT}", line)
            if found:
                rows.setdefault(iteration, {})[found[2]] = float(found[3])
    return table


def parse_log_sh(text: str) -> Table:
    """parse_log.sh's files: greps, then awk's numbered fields (from 1)."""
    lines = text.splitlines()
    table = Table()
    tests = [line.split() for line in lines if "Testing net" in line]
    accuracy = [line.split() for line in lines if "Test net output #0" in line]
    loss = [line.split() for line in lines if "Test net output #1" in line]
    for head, first, second in zip(tests, accuracy, loss, strict=True):
        iteration = int(re.search(r"Iteration (\d+)", " ".join(head))[1])
        table.test[iteration] = {
            "accuracy": float(first[11 - 1]),
            "loss": float(second[11 - 1]),
        }
    assert [line for line in lines if "] Solving " in line], "no start time"
    rates = [line.split() for line in lines if ", lr = " in line]
    losses = [line for line in lines if "] Iteration " in line and "loss = " in line]
    for fields in rates:
        iteration = int(fields[6 - 1].rstrip(","))
        table.train[iteration] = {"lr": float(fields[9 - 1])}
    for line in losses:
        iteration = int(line.split()[6 - 1].rstrip(","))
        value = float(line.split("loss = ")[1].split()[0])
        table.train.setdefault(iteration, {})["loss"] = value
    return table


@dataclass
class Digits:
    """What DIGITS takes from a log."""

    messages: list[tuple[str, str]] = field(default_factory=list)
    train: list[tuple[str, float]] = field(default_factory=list)
    test: list[tuple[str, float]] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    snapshots: list[int] = field(default_factory=list)


def digits(text: str) -> Digits:
    """Read a log line by line as DIGITS' training task does."""
    seen = Digits()
    pattern = re.compile(r"(\w)(\d{4} \S{8}).*]\s+(\S.*)$")
    number = r"[-+]?[0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?"
    saved = ""
    for line in text.splitlines():
        found = pattern.match(line)
        if not found:
            continue
        level, _, message = found.groups()
        seen.messages.append((level, message))
        score = re.match(rf"(Train|Test) net output #\d+: (\S*) = ({number})", message)
        if score:
            kind = seen.train if score[1] == "Train" else seen.test
            kind.append((score[2], float(score[3])))
        rate = re.match(rf"Iteration \d+.*lr = ({number})", message)
        if rate:
            seen.rates.append(float(rate[1]))
        # The second line must follow the first at once.
        if saved and "Snapshotting solver state" in message:
            seen.snapshots.append(int(saved))
        model = re.match(r"Snapshotting to .*_iter_(\d+)\.caffemodel", message)
        saved = model[1] if model else ""
    return seen
