"""The smoothed loss that the log shows."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

__all__ = ["LossWindow"]


class LossWindow:
    """Mean of the last ``average_loss`` losses.

    Args:
        size: how many are kept, at least 1.
    """

    def __init__(self, size: int) -> None:
        self._losses: deque[float] = deque(maxlen=size)

    def add(self, loss: float) -> None:
        """Take one iteration's loss."""
        self._losses.append(loss)

    @property
    def mean(self) -> float:
        """The smoothed loss; 0 before the first."""
        return sum(self._losses) / len(self._losses) if self._losses else 0.0

    def values(self) -> list[float]:
        """The kept losses, oldest first."""
        return list(self._losses)

    def replace(self, losses: Iterable[float] = ()) -> None:
        """Forget everything and take ``losses``."""
        self._losses.clear()
        self._losses.extend(losses)
