"""A process that measures one program: ``go N`` on stdin times N iterations.

Answers are lines of JSON.  Workers stay alive between rounds, so that a round may
visit all of them in turn and slow spells of the machine hit everybody alike.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable

__all__ = ["serve"]


def serve(step: Callable[[], float]) -> None:
    """Warm up, say ready with the loss, then obey stdin until it closes."""
    loss = step()
    step()
    _say({"ready": True, "loss": loss})
    for line in sys.stdin:
        times = []
        for _ in range(int(line.split()[1])):
            start = time.perf_counter()
            step()
            times.append((time.perf_counter() - start) * 1e3)
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        _say({"times_ms": times, "peak_mb": peak_mb})


def _say(message: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()
