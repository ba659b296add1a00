"""A cap on how fast a rank sends: a token bucket."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

__all__ = ["TokenBucket"]

_BURST_S = 0.005
_BITS_PER_MEGABIT = 1e6


class TokenBucket:
    """Tokens, one a byte, fill at a rate; a message takes as many as it has bytes.

    A message may start whenever the bucket is not in debt, so any size passes and the
    rate holds in the long run.

    Args:
        bytes_per_s: the rate; infinite for no cap.
        clock: seconds, monotonic.
    """

    def __init__(
        self, bytes_per_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = bytes_per_s
        self._clock = clock
        self._level = 0.0
        self._at_s = clock()

    @classmethod
    def of_mbps(cls, mbps: float) -> TokenBucket:
        """A bucket of so many Mbit/s; 0 for no cap."""
        return cls(mbps * _BITS_PER_MEGABIT / 8 if mbps > 0 else math.inf)

    def take(self, size_bytes: int) -> bool:
        """Take a message's tokens if it may start now; whether it may."""
        if math.isinf(self._rate):
            return True
        self._fill()
        if self._level < 0:
            return False
        self._level -= size_bytes
        return True

    def ready_in_s(self) -> float:
        """Seconds until the next message may start."""
        if math.isinf(self._rate):
            return math.inf
        self._fill()
        return max(-self._level / self._rate, 0.0)

    def _fill(self) -> None:
        now_s = self._clock()
        gained = (now_s - self._at_s) * self._rate
        self._level = min(self._level + gained, self._rate * _BURST_S)
        self._at_s = now_s
