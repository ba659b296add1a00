"""The data tools' notes as lines of the log."""

from __future__ import annotations

from poseidon_caffe.report.glog import Glog

__all__ = ["LoggedNotes"]


class LoggedNotes:
    """`data.notes.Notes` that go to the log under one source tag."""

    def __init__(self, log: Glog, tag: str) -> None:
        self._log = log
        self._tag = tag

    def info(self, text: str) -> None:
        """Log an INFO line."""
        self._log.info(self._tag, text)

    def warning(self, text: str) -> None:
        """Log a WARNING line."""
        self._log.warning(self._tag, text)

    def error(self, text: str) -> None:
        """Log an ERROR line."""
        self._log.error(self._tag, text)
