"""Training steps of whole nets, Poseidon and PyTorch taking turns on one GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[2]
MODELS = ("resnet50", "googlenet", "vgg16", "alexnet")
# The most telling first: what time is left does the rest.
BATCHES = (128, 32, 256, 64)
PRECISIONS = ("bf16", "tf32", "fp32")
PROGRAMS = ("poseidon", "torch")
_BURST_MS, _ROUNDS, _MOST_STEPS = 250.0, 5, 50

Row = dict[str, Any]


class Worker:
    """One measuring process, kept for all cases; started anew after it died."""

    def __init__(self, program: str) -> None:
        self._program = program
        self._process: subprocess.Popen[str] | None = None

    def ask(self, **request: Any) -> Row:
        """The answer; with "error" where there is none to give."""
        process = self._process
        if process is None or process.poll() is not None:
            process = self._process = subprocess.Popen(
                [sys.executable, "-m", f"benchmarks.gpu.{self._program}_worker"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True,
                env=dict(os.environ),
            )  # fmt: skip
        stdin: IO[str] | None = process.stdin
        stdout: IO[str] | None = process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(json.dumps(request) + "\n")
            stdin.flush()
            line = stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            return {"error": f"the process ended with status {process.wait()}"}
        found: Row = json.loads(line)
        return found

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def order(
    models: list[str], batches: list[int], precisions: list[str]
) -> Iterator[tuple[str, int, str]]:
    """(model, batch, precision) of every case."""
    for batch in batches:
        for precision in precisions:
            for model in models:
                yield model, batch, precision


def _burst(worker: Worker, ms: float) -> Row:
    return worker.ask(do="go", steps=max(1, min(_MOST_STEPS, int(_BURST_MS / ms))))


def _alternate(workers: dict[str, Worker], row: Row) -> None:
    """Time those that are built, in turns; the medians go into the row."""
    first = {name: worker.ask(do="go", steps=1) for name, worker in workers.items()}
    times: dict[str, list[float]] = {name: [] for name in workers}
    for _ in range(_ROUNDS):
        for name, worker in workers.items():
            if "error" in row[name]:
                continue
            answer = _burst(worker, first[name].get("ms", 1.0))
            if "error" in answer:
                row[name] |= answer
                continue
            times[name].append(answer["ms"])
            row[name]["peak_mb"] = answer["peak_mb"]
    for name, found in times.items():
        if found:
            row[name] |= {"ms": median(found), "images_s": row["batch"] / median(found)}
            row[name]["images_s"] *= 1e3


def measure(workers: dict[str, Worker], case: tuple[str, int, str]) -> Row:
    """One row: of each program its milliseconds, images/s, peak memory, first loss.

    Both nets lie on the GPU at once where they fit, else one after the other.
    """
    model, batch, precision = case
    row: Row = {"model": model, "batch": batch, "precision": precision}
    request = {"do": "build", "model": model, "batch": batch, "precision": precision}
    for name, worker in workers.items():
        row[name] = worker.ask(**request)
    if any("error" in row[name] for name in workers):
        row["alone"] = True
        for worker in workers.values():
            worker.ask(do="drop")
        for name, worker in workers.items():
            row[name] = worker.ask(**request)
            if "error" not in row[name]:
                _alternate({name: worker}, row)
            worker.ask(do="drop")
    else:
        _alternate(workers, row)
        for worker in workers.values():
            worker.ask(do="drop")
    ms = [row[name].get("ms") for name in PROGRAMS if name in row]
    if len(ms) == 2 and all(ms):
        row["speed"] = ms[1] / ms[0]
    return row


def line(row: Row) -> str:
    """A row of the table."""
    cells = [row["model"], str(row["batch"]), row["precision"]]
    for name in PROGRAMS:
        one = row.get(name, {"error": "not run"})
        if "ms" in one:
            cells += [f"{one['images_s']:.0f}", f"{one['peak_mb']:.0f}"]
        else:
            cells += [one.get("error", "no time")[:60], ""]
    cells.append(f"{row['speed']:.2f}" if "speed" in row else "")
    return "| " + " | ".join(cells) + " |\n"


HEAD = (
    "| net | batch | precision | Poseidon images/s | peak MB | PyTorch images/s "
    "| peak MB | speed of PyTorch's |\n" + "| --- " * 8 + "|\n"
)


def run(
    cases: Iterator[tuple[str, int, str]],
    programs: list[str],
    say: Callable[[str], None],
    keep: Callable[[Row], None],
    late: Callable[[], bool],
) -> None:
    """Measure the cases until it is late; each row is said and kept at once."""
    workers = {name: Worker(name) for name in PROGRAMS if name in programs}
    say(HEAD)
    try:
        for case in cases:
            if late():
                say(f"no time for {case} and what follows\n")
                return
            row = measure(workers, case)
            keep(row)
            say(line(row))
    finally:
        for worker in workers.values():
            worker.close()
