"""Which algorithm suits which shape best: measured once, kept on disk."""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

__all__ = ["Choice", "Choices"]

_FORMAT = 1


@dataclass(frozen=True)
class Choice:
    """One algorithm for one shape.

    Attributes:
        algorithm: its number (of an engine, for a graph).
        math: `MathType` that it was measured with.
        workspace: bytes of scratch memory that it uses.
        milliseconds: what it took; -1 if it was not measured.
        knobs: kind and value of each setting of an engine.
    """

    algorithm: int
    math: int = 0
    workspace: int = 0
    milliseconds: float = -1.0
    knobs: tuple[tuple[int, int], ...] = ()


def _read(record: Any) -> Choice | None:
    """The choice in a JSON record, None if it is none."""
    names = {field.name for field in fields(Choice)}
    if not isinstance(record, dict) or set(record) != names:
        return None
    knobs, time = record["knobs"], record["milliseconds"]
    numbers = [record[name] for name in ("algorithm", "math", "workspace")]
    try:
        pairs = tuple((kind, value) for kind, value in knobs)
    except (TypeError, ValueError):
        return None
    numbers += [number for pair in pairs for number in pair]
    sound = all(type(number) is int and number >= 0 for number in numbers)
    if not sound or type(time) not in {int, float}:
        return None
    return Choice(numbers[0], numbers[1], numbers[2], float(time), pairs)


class Choices:
    """The choices for one GPU and one cuDNN; several processes may share the file.

    A file that is damaged or of another format counts as empty and is replaced; a
    folder that cannot be written keeps the choices in memory only.

    Args:
        path: the JSON file; None for none.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known = self._load()

    @classmethod
    def for_device(
        cls, folder: Path | None, device: str, version: tuple[int, int, int]
    ) -> Choices:
        """The choices of a GPU (by its name) and a cuDNN version."""
        if folder is None:
            return cls(None)
        name = re.sub(r"[^A-Za-z0-9.]+", "-", device).strip("-") or "gpu"
        number = ".".join(map(str, version))
        return cls(folder / f"{name}-cudnn-{number}.json")

    def get(self, key: str) -> Choice | None:
        """What was chosen for ``key``."""
        return self._known.get(key)

    def put(self, key: str, choice: Choice) -> None:
        """Keep a choice, on disk too, beside what others wrote meanwhile."""
        self._known = {**self._load(), **self._known, key: choice}
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._save(self._path)

    def _load(self) -> dict[str, Choice]:
        if self._path is None:
            return {}
        try:
            content = json.loads(self._path.read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            return {}
        records = content.get("choices")
        if not isinstance(records, dict):
            return {}
        found = {key: _read(record) for key, record in records.items()}
        return {key: choice for key, choice in found.items() if choice is not None}

    def _save(self, path: Path) -> None:
        """Write to a file beside and rename: readers see all of it or the old one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        records = {key: asdict(choice) for key, choice in sorted(self._known.items())}
        content = json.dumps({"format": _FORMAT, "choices": records}, indent=1)
        descriptor, name = tempfile.mkstemp(prefix=path.name, dir=path.parent)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(content)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
