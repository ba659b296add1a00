"""Poseidon beside PyTorch: forward and backward, whole training, memory.

``make bench`` runs it with PyTorch on the path; ``BENCH_ARGS="--cases lenet"``
chooses.  Prints tables and keeps them as JSON in ``build/bench/results.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import IO, Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import nets, training  # noqa: E402 - found by the line above

# Page faults of fresh memory would cost PyTorch, which allocates per call, dearly.
MALLOC = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 36),
    "MALLOC_TOP_PAD_": str(64 << 20),
}
PROGRAMS = ("poseidon", "torch plain", "torch last")


class Worker:
    """One measuring process."""

    def __init__(self, program: str, case: nets.Case, threads: int) -> None:
        name, _, form = program.partition(" ")
        command = [sys.executable, "-m", f"benchmarks.{name}_worker", case.name]
        env = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        env |= MALLOC if name == "torch" else {}
        self._process = subprocess.Popen(
            [*command, str(threads), form],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, env=env, text=True,
        )  # fmt: skip
        self.loss = self._answer()["loss"]
        self.times_ms: list[float] = []
        self.peak_mb = 0.0

    def _answer(self) -> dict[str, Any]:
        stdout: IO[str] | None = self._process.stdout
        line = stdout.readline() if stdout else ""
        if not line:
            raise SystemExit(f"{self._process.args} died")
        found: dict[str, Any] = json.loads(line)
        return found

    def go(self, iterations: int) -> None:
        """Time some iterations."""
        if self._process.stdin:
            self._process.stdin.write(f"go {iterations}\n")
            self._process.stdin.flush()
        answer = self._answer()
        self.times_ms.append(median(answer["times_ms"]))
        self.peak_mb = answer["peak_mb"]

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()


def compare(case: nets.Case, rounds: int, threads: int) -> dict[str, Any]:
    """Medians over rounds in which all programs take turns."""
    workers = {p: Worker(p, case, threads) for p in PROGRAMS}
    try:
        first = workers["poseidon"]
        first.go(1)
        iterations = max(1, min(50, int(1500 / first.times_ms.pop())))
        for _ in range(rounds):
            for worker in workers.values():
                worker.go(iterations)
    finally:
        for worker in workers.values():
            worker.close()
    ms = {p: median(w.times_ms) for p, w in workers.items()}
    best = min(ms["torch plain"], ms["torch last"])
    return {
        "case": case.name,
        "ms": ms,
        "peak_mb": {p: w.peak_mb for p, w in workers.items()},
        "loss": {p: w.loss for p, w in workers.items()},
        "ratio": ms["poseidon"] / best,
    }


def machine() -> str:
    """What this ran on."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next((x.split(":")[1].strip() for x in lines if "model name" in x), "?")
    cores = len(os.sched_getaffinity(0))
    return f"{model}, {cores} cores, Python {platform.python_version()}"


def main() -> None:
    """Measure the chosen cases and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="*", default=[c.name for c in nets.CASES])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--skip", nargs="*", default=[], choices=["steps", "training"])
    parser.add_argument("--output", default=str(ROOT / "build/bench/results.json"))
    args = parser.parse_args()
    say = sys.stdout.write
    results: dict[str, Any] = {"machine": machine(), "threads": args.threads}
    say(f"{results['machine']}; {args.threads} threads, {args.rounds} rounds\n")
    cases = [nets.find(name) for name in args.cases]
    if "steps" not in args.skip:
        say(f"forward + backward, ms: {', '.join(PROGRAMS)}; ratio to the best torch\n")
        results["steps"] = []
        for case in cases:
            row = compare(case, args.rounds, args.threads)
            results["steps"].append(row)
            ms = "  ".join(f"{row['ms'][p]:9.2f}" for p in PROGRAMS)
            say(f"  {case.name:20s} {ms}  {row['ratio']:.2f}\n")
    if "training" not in args.skip:
        say("whole training: share of forward + backward, peak MB poseidon and torch\n")
        results["training"] = []
        for case in cases:
            found = training.measure(case, args.threads, MALLOC)
            results["training"].append(found)
            say(
                f"  {case.name:20s} {found['share']:.3f}  "
                f"{found['poseidon_mb']:.0f} {found['torch_mb']:.0f}\n"
            )
    path = Path(args.output)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
