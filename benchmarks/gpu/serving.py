"""A process that measures one program on the GPU: a line of JSON in, one out.

``{"do": "build", "model": "alexnet", "batch": 64, "precision": "bf16"}`` makes a
training step ready, ``{"do": "go", "steps": 10}`` times some, ``{"do": "drop"}`` frees
all memory.  Answers hold "error" where something did not work.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from benchmarks.nets import Case, find

__all__ = ["Built", "Program", "serve"]

WARM_UP_STEPS = 5


@dataclass
class Built:
    """A training step, ready to be timed.

    Attributes:
        step: does one and returns its loss, so that the GPU has ended it.
        note: what a reader of the figures must know.
    """

    step: Callable[[], float]
    note: str = ""


class Program(Protocol):
    """What is measured."""

    def build(self, case: Case, precision: str) -> Built:
        """A net that trains."""

    def peak_mb(self) -> float:
        """The most memory of the GPU that this program held since `build`."""

    def drop(self) -> None:
        """Free all memory of the GPU."""


def serve(program: Program) -> None:
    """Obey stdin until it closes."""
    # Libraries may print: what is meant for the caller has a channel of its own.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    built: Built | None = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if request["do"] == "go":
                assert built is not None
                answer = _time(built, request["steps"])
                answer["peak_mb"] = program.peak_mb()
            else:
                built = None
                program.drop()
                answer = {}
            if request["do"] == "build":
                built, answer = _build(program, request)
        except Exception as error:  # noqa: BLE001 - the caller reports it
            built = None
            answer = {"error": f"{type(error).__name__}: {error}"[:300]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _build(program: Program, request: dict[str, Any]) -> tuple[Built, dict[str, Any]]:
    known = find(request["model"])
    case = Case(known.model, request["batch"], known.image, known.classes)
    start = time.perf_counter()
    built = program.build(case, request["precision"])
    loss = built.step()
    for _ in range(WARM_UP_STEPS):
        built.step()
    seconds = time.perf_counter() - start
    return built, {"loss": loss, "seconds": seconds, "note": built.note}


def _time(built: Built, steps: int) -> dict[str, Any]:
    """Milliseconds of a step."""
    start = time.perf_counter()
    for _ in range(steps):
        built.step()
    return {"ms": (time.perf_counter() - start) * 1e3 / steps}
