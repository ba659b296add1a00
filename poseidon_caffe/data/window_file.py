"""Window files: boxes in images, foreground and background, as R-CNN writes them.

Repeated, separated by blanks and line ends: ``#`` and the image's number, its
path, channels, height, width, number of windows; then for each window its class,
its overlap with an object, x1, y1, x2, y2 (corners included).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from poseidon_caffe.errors import ParseError

__all__ = ["Box", "WindowFile", "read_windows"]

_PER_WINDOW = 6
_LABEL, _OVERLAP = 0, 1


class Box(NamedTuple):
    """A window: the number of its image, its class and its corners in pixels."""

    image: int
    label: int
    x1: int
    y1: int
    x2: int
    y2: int


@dataclass(frozen=True)
class WindowFile:
    """What a window file holds.

    Attributes:
        path: the file.
        images: paths of the images, by number; as written.
        channels: of the last image, from which Caffe takes the shape.
        foreground, background: int32 (n, 6), the fields of a `Box` each; the class
            of a background window is 0.
    """

    path: str
    images: list[str]
    channels: int
    foreground: npt.NDArray[np.int32]
    background: npt.NDArray[np.int32]

    def histogram(self) -> list[tuple[int, int]]:
        """(class, number of windows) in order, the background first."""
        labels, counts = np.unique(self.foreground[:, 1], return_counts=True)
        pairs = zip(labels.tolist(), counts.tolist(), strict=True)
        return [(0, len(self.background)), *pairs]


def read_windows(path: str, fg_threshold: float, bg_threshold: float) -> WindowFile:
    """Read a window file.

    Args:
        path: the file.
        fg_threshold: windows of at least this overlap are foreground.
        bg_threshold: others below this one are background; the rest is left out.

    Raises:
        ParseError: naming file and line.
    """
    try:
        with Path(path).open(encoding="utf-8", errors="surrogateescape") as file:
            words = _Words(path, file)
            return _read(words, np.float32(fg_threshold), np.float32(bg_threshold))
    except (OSError, ValueError) as error:  # ValueError: no name can be so
        raise ParseError(
            f"{path}: the window file cannot be read ({error})", path=path
        ) from error


def _read(words: _Words, fg: np.float32, bg: np.float32) -> WindowFile:
    images: list[str] = []
    chosen: tuple[list[npt.NDArray[np.int32]], ...] = ([], [])
    channels = 0
    while words.more():
        _read_number(words, len(images))
        images.append(words.take(1, "the image's path")[0])
        channels = words.integer("the image's channels")
        words.integer("the image's height")
        words.integer("the image's width")
        count = words.integer("the number of windows")
        table = _read_table(words, count)
        overlap = table[:, _OVERLAP].astype(np.float32)
        boxes = np.delete(table, _OVERLAP, axis=1).astype(np.int32)
        boxes = np.insert(boxes, 0, len(images) - 1, axis=1)
        front = overlap >= fg
        unlabelled = np.flatnonzero(front & (table[:, _LABEL] <= 0))
        if unlabelled.size:
            at = int(unlabelled[0])
            raise words.error(
                f"a window of overlap {overlap[at]:g}, at least fg_threshold {fg:g}, "
                f"has class {int(table[at, _LABEL])}; foreground classes start at 1",
                at * _PER_WINDOW,
            )
        behind = boxes[~front & (overlap < bg)]
        behind[:, 1] = 0
        chosen[0].append(boxes[front])
        chosen[1].append(behind)
    if not images:
        raise ParseError(f"{words.path}: the window file is empty", path=words.path)
    foreground, background = (np.concatenate(part) for part in chosen)
    return WindowFile(words.path, images, channels, foreground, background)


def _read_number(words: _Words, expected: int) -> None:
    """The "# number" that begins an image."""
    mark = words.take(1, "#")[0]
    if mark != "#":
        raise words.error(
            f'expected "# {expected}", the next image, received "{mark}"; is the '
            "number of windows above right?"
        )
    number = words.integer("the image's number")
    if number != expected:
        # Caffe would take the windows of one image from another.
        raise words.error(
            f"image number {number}, expected {expected}: images are numbered from 0 on"
        )


def _read_table(words: _Words, count: int) -> npt.NDArray[np.float64]:
    """(count, 6): class, overlap, x1, y1, x2, y2."""
    if count < 0:
        raise words.error(f"{count} windows")
    size = count * _PER_WINDOW
    what = f"{count} windows (class, overlap, x1, y1, x2, y2)"
    values = words.numbers(size, what).reshape(count, _PER_WINDOW)
    whole = values == np.rint(values)
    whole[:, _OVERLAP] = np.isfinite(values[:, _OVERLAP])
    wrong = np.flatnonzero(~whole)
    if wrong.size:
        at = int(wrong[0])
        raise words.error(f"expected an integer, received {values.flat[at]:g}", at)
    return values


class _Words:
    """The words of a file, and the lines they are from."""

    def __init__(self, path: str, lines: Iterator[str]) -> None:
        self.path = path
        self._lines = enumerate(lines, start=1)
        self._rest: list[str] = []
        self._line = 0
        # Of the words last taken: how many came before each line.
        self._places: list[tuple[int, int]] = []

    def more(self) -> bool:
        """Whether any word is left."""
        while not self._rest:
            found = next(self._lines, None)
            if found is None:
                return False
            self._line, text = found
            self._rest = text.split()
        return True

    def take(self, count: int, what: str) -> list[str]:
        """The next words."""
        self._places = []
        words: list[str] = []
        while len(words) < count:
            if not self.more():
                raise self.error(f"the file ends where {what} should follow")
            self._places.append((len(words), self._line))
            missing = count - len(words)
            words += self._rest[:missing]
            self._rest = self._rest[missing:]
        return words

    def integer(self, what: str) -> int:
        """The next word as an integer."""
        return int(self._converted(self.take(1, what), int, what)[0])

    def numbers(self, count: int, what: str) -> npt.NDArray[np.float64]:
        """The next words as numbers."""
        return self._converted(self.take(count, what), float, what)

    def error(self, problem: str, word: int = 0) -> ParseError:
        """An error at one of the words last taken."""
        line = self._line
        for first, number in self._places:
            if first <= word:
                line = number
        return ParseError(f"{self.path}:{line}: {problem}", path=self.path, line=line)

    def _converted(
        self, words: list[str], kind: Callable[[str], float], what: str
    ) -> npt.NDArray[np.float64]:
        try:
            return np.fromiter(map(kind, words), np.float64, len(words))
        except ValueError:
            at = next(i for i, word in enumerate(words) if not _is(kind, word))
            problem = f'expected {what}, received "{words[at]}"'
            raise self.error(problem, at) from None


def _is(kind: Callable[[str], float], word: str) -> bool:
    try:
        kind(word)
    except ValueError:
        return False
    return True
