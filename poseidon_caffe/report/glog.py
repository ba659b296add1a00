"""Caffe's log: glog's line format on stderr, and in files when asked for.

A line is ``I1122 15:16:09.595388  2390 solver.cpp:289] Solving LeNet``: level,
month and day, time, thread, source tag.  Programs parse it, so the four digits
of the date, the width of the thread and the tags of Caffe's own sources are an
interface.
"""

from __future__ import annotations

import enum
import getpass
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from poseidon_caffe.errors import UsageError

__all__ = ["Glog", "Level", "LogFiles", "Overlay", "format_g", "prefix"]


class Level(enum.IntEnum):
    """How bad it is; the first letter begins the line."""

    INFO = 0
    WARNING = 1
    ERROR = 2
    FATAL = 3


def format_g(value: float) -> str:
    """``value`` as C++ streams print a float: six significant digits."""
    return f"{float(value):g}"


def prefix(level: Level, tag: str, when_s: float, thread: int) -> str:
    """What stands before a message: up to ``] `` included.

    Args:
        level: of the message.
        tag: ``file:line`` without blanks.
        when_s: seconds since 1970.
        thread: id of the thread, padded to five.
    """
    micros = int(when_s * 1e6)
    clock = time.strftime("%m%d %H:%M:%S", time.localtime(micros // 1_000_000))
    return f"{level.name[0]}{clock}.{micros % 1_000_000:06d} {thread:5d} {tag}] "


class Overlay:
    """Something drawn below the log on a terminal; the base draws nothing."""

    def clear(self) -> None:
        """Called before each line: take the drawing away."""

    def redraw(self) -> None:
        """Called after each line: draw it again."""


@dataclass
class LogFiles:
    """glog's log files: one per level, opened at its first message.

    ``DIR/poseidon.HOST.USER.log.INFO.YYYYMMDD-HHMMSS.PID`` holds that level and
    worse; the link ``DIR/poseidon.INFO`` names the newest.

    Attributes:
        folder: where they are written; must exist.
        program: first part of the names.
    """

    folder: Path
    program: str = "poseidon"
    _open: dict[Level, TextIO] = field(default_factory=dict)
    _started_s: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        """Check the folder.

        Raises:
            UsageError: it is no folder that can be written to.
        """
        if not self.folder.is_dir() or not os.access(self.folder, os.W_OK):
            raise UsageError(
                f"--log_dir={self.folder}: not a folder that can be written to"
            )

    def write(self, level: Level, text: str) -> None:
        """Append ``text`` to the file of ``level`` and of every milder one."""
        for each in Level:
            if each > level:
                return
            stream = self._open.get(each) or self._create(each)
            stream.write(text)
            stream.flush()

    def close(self) -> None:
        """Close what was opened."""
        for stream in self._open.values():
            stream.close()
        self._open.clear()

    def _create(self, level: Level) -> TextIO:
        host, started = socket.gethostname(), time.localtime(self._started_s)
        name = (
            f"{self.program}.{host}.{_user()}.log.{level.name}."
            f"{time.strftime('%Y%m%d-%H%M%S', started)}.{os.getpid()}"
        )
        stream = (self.folder / name).open("a", encoding="utf-8")
        stream.write(
            f"Log file created at: {time.strftime('%Y/%m/%d %H:%M:%S', started)}\n"
            f"Running on machine: {host}\n"
            "Log line format: [IWEF]mmdd hh:mm:ss.uuuuuu threadid file:line] msg\n"
        )
        self._open[level] = stream
        self._link(level, name)
        return stream

    def _link(self, level: Level, name: str) -> None:
        """Point ``program.LEVEL`` at the new file; a file system may lack links."""
        link = self.folder / f"{self.program}.{level.name}"
        try:
            link.unlink(missing_ok=True)
            link.symlink_to(name)
        except OSError:
            return


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return f"uid{os.getuid()}"


class Glog:
    """Writes log lines; safe to share between threads.

    Attributes:
        stream: where lines go, stderr by default.
        min_level: milder messages are dropped (``GLOG_minloglevel``).
        files: log files beside the stream, or None.
        overlay: a progress display on the same terminal.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        min_level: int = 0,
        files: LogFiles | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.stream = sys.stderr if stream is None else stream
        self.min_level = min_level
        self.files = files
        self.overlay = Overlay()
        self._clock = clock
        self._lock = threading.RLock()

    def info(self, tag: str, message: str) -> None:
        """Write an INFO line."""
        self.write(Level.INFO, tag, message)

    def warning(self, tag: str, message: str) -> None:
        """Write a WARNING line."""
        self.write(Level.WARNING, tag, message)

    def error(self, tag: str, message: str) -> None:
        """Write an ERROR line."""
        self.write(Level.ERROR, tag, message)

    def fatal(self, tag: str, message: str) -> None:
        """Write a FATAL line, whatever ``min_level``; does not end the program."""
        self.write(Level.FATAL, tag, message)

    def write(self, level: Level, tag: str, message: str) -> None:
        """Write ``message``; only its first line is prefixed, as in glog."""
        if level < self.min_level and level != Level.FATAL:
            return
        head = prefix(level, tag, self._clock(), threading.get_native_id())
        text = f"{head}{message}\n"
        with self._lock:
            self.overlay.clear()
            self.stream.write(text)
            self.stream.flush()
            if self.files is not None:
                self.files.write(level, text)
            self.overlay.redraw()

    def draw(self, text: str) -> None:
        """Write ``text`` as it is, never between the parts of a line: overlays."""
        with self._lock:
            self.stream.write(text)
            self.stream.flush()

    def close(self) -> None:
        """Close the log files, if any; the stream stays open."""
        if self.files is not None:
            self.files.close()
