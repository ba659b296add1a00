"""A live line below the log: iterations, images per second, loss, time left.

Only on a terminal.  It is drawn with a carriage return and taken away before each
log line, so what is scrolled or copied is the log alone.
"""

from __future__ import annotations

import math
import os
import shutil
import time
from collections import deque
from collections.abc import Callable
from typing import Final, TextIO

from poseidon_caffe.report.glog import Glog, Overlay, format_g
from poseidon_caffe.solver import events

__all__ = ["Progress", "ProgressListener", "bar", "duration", "may_draw"]

_INTERVAL_S: Final = 0.1
_WINDOW_S: Final = 10.0  # the rate is that of the last seconds
_CLEAR: Final = "\r\x1b[K"
_BAR_CELLS: Final = 24
_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"


def may_draw(stream: TextIO) -> bool:
    """Whether ``stream`` is a terminal that can take its line back."""
    return stream.isatty() and os.environ.get("TERM", "") != "dumb"


def bar(fraction: float, cells: int, *, unicode: bool) -> str:
    """A bar ``cells`` wide, full to ``fraction`` (0 to 1)."""
    fraction = min(max(fraction, 0.0), 1.0)
    if not unicode:
        full = int(fraction * cells)
        return "[" + "#" * full + "." * (cells - full) + "]"
    eighths = int(fraction * cells * 8)
    full, part = divmod(eighths, 8)
    text = "█" * full + (_EIGHTHS[part] if part else "")
    return f"▕{text.ljust(cells)}▏"


def duration(seconds: float) -> str:
    """``0:42``, ``12:03`` or ``3:04:05``; ``-:--`` when unknown."""
    if not math.isfinite(seconds):
        return "-:--"
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02d}:{rest:02d}"
    return f"{minutes}:{rest:02d}"


def _speaks_unicode(stream: TextIO) -> bool:
    try:
        "▕█▏·".encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


class Progress(Overlay):
    """The line itself.

    Args:
        log: shares its terminal; becomes this log's overlay.
        total: steps in all.
        images_per_step: for the rate; 0 shows steps per second.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        log: Glog,
        total: int,
        images_per_step: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log, self._total, self._images = log, total, images_per_step
        self._clock = clock
        self._unicode = _speaks_unicode(log.stream)
        self._marks: deque[tuple[float, int]] = deque()
        self._text = ""
        self._drawn_s = -math.inf
        log.overlay = self

    def start(self, step: int) -> None:
        """Measure the rate from here; ``step`` steps are done already."""
        self._marks.clear()
        self._marks.append((self._clock(), step))

    def update(self, step: int, note: str = "") -> None:
        """``step`` steps are done; draws at most ten times a second."""
        now = self._clock()
        if now - self._drawn_s < _INTERVAL_S:
            return
        self._marks.append((now, step))
        while len(self._marks) > 2 and now - self._marks[0][0] > _WINDOW_S:
            self._marks.popleft()
        self._drawn_s = now
        self._text = self._line(step, note)
        self._log.draw(_CLEAR + self._text)

    def finish(self) -> None:
        """Take the line away for good."""
        self.clear()
        self._text = ""
        self._log.overlay = Overlay()

    def clear(self) -> None:
        """Take the line away: a log line comes."""
        if self._text:
            self._log.draw(_CLEAR)

    def redraw(self) -> None:
        """Draw the line again below the log."""
        if self._text:
            self._log.draw(self._text)

    def _rate(self) -> float:
        """Steps per second over the window."""
        (first_s, first), (last_s, last) = self._marks[0], self._marks[-1]
        return (last - first) / (last_s - first_s) if last_s > first_s else 0.0

    def _line(self, step: int, note: str) -> str:
        rate = self._rate()
        left_s = (self._total - step) / rate if rate else math.inf
        speed = f"{rate:.4g} iter/s"
        if self._images:
            speed = f"{rate * self._images:.4g} images/s"
        fraction = step / self._total if self._total else 1.0
        parts = [
            f"{step}/{self._total}",
            bar(fraction, _BAR_CELLS, unicode=self._unicode),
            speed,
            *([note] if note else []),
            f"ETA {duration(left_s)}",
        ]
        # One column is left free: a full line would wrap and could not be cleared.
        return "  ".join(parts)[: shutil.get_terminal_size().columns - 1]


class ProgressListener:
    """A `SolverListener` that keeps a `Progress` up to date.

    Args:
        log: shares its terminal.
        images_per_iter: batch size times ``iter_size``; 0 when unknown.
    """

    def __init__(self, log: Glog, images_per_iter: int = 0) -> None:
        self._log, self._images = log, images_per_iter
        self._progress: Progress | None = None

    def on_event(self, event: events.Event) -> None:
        """Start, move or take away the line."""
        if isinstance(event, events.SolverStarted):
            self._progress = Progress(self._log, event.max_iter, self._images)
            self._progress.start(event.iteration)
        elif self._progress is None:
            return
        elif isinstance(event, events.IterationFinished):
            note = f"loss {format_g(float(f'{event.loss:.4g}'))}"
            self._progress.update(event.iteration, note)
        elif isinstance(event, events.Finished | events.StoppedEarly):
            self.close()

    def close(self) -> None:
        """Take the line away, as at the end."""
        if self._progress is not None:
            self._progress.finish()
            self._progress = None
