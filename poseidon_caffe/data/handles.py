"""Open databases of this process, shared by path.

LMDB and LevelDB refuse to open one database twice in a process, yet a net for
training and a net for testing may well read the same one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["SharedHandles"]


class SharedHandles:
    """Handles by real path, each open as long as somebody uses it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._handles: dict[Path, tuple[Any, int]] = {}

    def acquire(self, path: Path, opener: Callable[[Path], Any]) -> Any:
        """The handle of ``path``; ``opener`` makes it for the first user."""
        path = path.resolve()
        with self._lock:
            handle, users = self._handles.get(path) or (opener(path), 0)
            self._handles[path] = (handle, users + 1)
            return handle

    def release(self, path: Path) -> None:
        """Give back one use; the last one closes the handle."""
        path = path.resolve()
        with self._lock:
            handle, users = self._handles.pop(path)
            if users > 1:
                self._handles[path] = (handle, users - 1)
            else:
                handle.close()
