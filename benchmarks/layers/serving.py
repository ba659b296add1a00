"""A process that measures one program's layers: a case's name a line on stdin."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from statistics import median

__all__ = ["Steps", "serve"]

Steps = dict[str, tuple[Callable[[], None], float]]
_WORTH_S = 0.15  # how long one pass is repeated for


def serve(make: Callable[[str], Steps | None]) -> None:
    """Answer each line with {"forward": [ms, bytes], "backward": ...} or null."""
    name, steps = "", None
    for line in sys.stdin:
        if line.strip() != name:
            name, steps = line.strip(), None
            steps = make(name)
        answer = None
        if steps is not None:
            answer = {
                k: (_measure(run) * 1e3, size) for k, (run, size) in steps.items()
            }
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _measure(run: Callable[[], None]) -> float:
    """Median seconds of a call."""
    run()
    times, end = [], time.perf_counter() + _WORTH_S
    while time.perf_counter() < end or len(times) < 3:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return median(times)
