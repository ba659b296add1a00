"""Single lines of a training log taken apart: when, which iteration, what value."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

__all__ = ["Clock", "Output", "iteration_of", "leap_day", "output_of", "rate_of"]

_STAMP: Final = re.compile(
    r"(?:^|(?<=[\s>:\]]))[IWEF](\d{4})?(\d{2})(\d{2})\s+(\d+):(\d+):(\d+)\.(\d{1,6})\b"
)
_ITERATION: Final = re.compile(r"Iteration (\d+)")
_NUMBER: Final = r"[-+]?(?:nan|inf|[\d.][\d.eE+-]*)"
_OUTPUT: Final = re.compile(rf"(Train|Test) net output #\d+: (\S+) = ({_NUMBER})")
_LOSS: Final = re.compile(rf"Iteration \d+.*, loss = ({_NUMBER})")
_RATE: Final = re.compile(rf"lr = ({_NUMBER})")
_LEAP_DAY: Final = re.compile(r"^[IWEF]0229\s", re.MULTILINE)


@dataclass(frozen=True)
class Output:
    """One value that a net printed.

    Attributes:
        test: it is a test net's, not the training net's.
        name: of the blob; empty for the smoothed loss of the training.
        value: as printed; may be NaN or infinite.
    """

    test: bool
    name: str
    value: float


class Clock:
    """Reads the time at the head of log lines, over the end of a year too.

    Both forms of the date are known: glog's old ``I1122`` without a year, which
    then is ``year`` until the month falls, and its new ``I20261122``.

    Args:
        year: of the first line, where lines name none.
    """

    def __init__(self, year: int) -> None:
        self._year = year
        self._last: datetime | None = None

    def read(self, line: str) -> datetime | None:
        """The time of ``line``, or None when no valid one heads it."""
        found = _STAMP.search(line)
        if found is None:
            return None
        named, *rest, fraction = found.groups()
        year = int(named) if named else self._year
        moment = _moment(year, rest, fraction)
        if moment is None:
            return None
        last = self._last
        if named is None and last is not None and moment.month < last.month:
            self._year += 1
            moment = _moment(self._year, rest, fraction) or moment
        self._last = moment
        return moment


def _moment(year: int, parts: list[str], fraction: str) -> datetime | None:
    """The time, or None if there is no such one.

    Caffe parity: the fraction is taken as a number of microseconds, which it is
    in glog's six digits.
    """
    with contextlib.suppress(ValueError, OverflowError):
        month, day, hour, minute, second = map(int, parts)
        return datetime(  # noqa: DTZ001 - a log tells no zone
            year, month, day, hour, minute, second, int(fraction)
        )
    return None


def leap_day(text: str) -> bool:
    """Whether a line without a year is of 29 February, which not every year has."""
    return _LEAP_DAY.search(text) is not None


def iteration_of(line: str) -> float | None:
    """The number after "Iteration", as a float like Caffe's tables have it."""
    found = _ITERATION.search(line)
    return float(found[1]) if found else None


def rate_of(line: str) -> float | None:
    """The learning rate that the line tells."""
    found = _RATE.search(line)
    return next(_numbers(found), None) if found else None


def output_of(line: str) -> Output | None:
    """What a net printed in this line: an output, or the smoothed training loss."""
    found = _OUTPUT.search(line)
    if found:
        for value in _numbers(found):
            return Output(found[1] == "Test", found[2], value)
    found = _LOSS.search(line)
    if found:
        for value in _numbers(found):
            return Output(test=False, name="", value=value)
    return None


def _numbers(found: re.Match[str]) -> Iterator[float]:
    """The last group as a number, if it is one ("1e" of a line cut off is none)."""
    with contextlib.suppress(ValueError):
        yield float(found[found.re.groups])
