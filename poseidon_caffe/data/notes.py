"""Where the tools of this room say what they do; the command line logs it."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Notes", "Silent"]


class Notes(Protocol):
    """Receives lines of text, in Caffe's words."""

    def info(self, text: str) -> None:
        """Something went as it should."""

    def warning(self, text: str) -> None:
        """Something was probably not meant so."""

    def error(self, text: str) -> None:
        """Something failed and was left out."""


class Silent:
    """Notes that nobody reads."""

    def info(self, text: str) -> None:
        """Drop it."""

    def warning(self, text: str) -> None:
        """Drop it."""

    def error(self, text: str) -> None:
        """Drop it."""
