"""A table of all layer types: ``python benchmarks/layers/run.py``.

For each case: milliseconds forward and backward; the share of the machine's memory
bandwidth or of its peak arithmetic, whichever the case is nearer to; and the time
beside PyTorch's, in the faster of its two layouts.  The programs take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import IO, Any

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.layers.cases import CASES, Case  # noqa: E402 - found by the line above
from benchmarks.run import MALLOC, machine  # noqa: E402

PASSES = ("forward", "backward")


class Worker:
    """One measuring process."""

    def __init__(self, module: str, *words: str) -> None:
        threads = words[0]
        env = {**os.environ, "OMP_NUM_THREADS": threads}
        env |= MALLOC if "torch" in module else {}
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"benchmarks.layers.{module}", *words],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, env=env, text=True,
        )  # fmt: skip

    def measure(self, name: str) -> dict[str, Any] | None:
        """{"forward": [ms, bytes], ...}."""
        stdin: IO[str] | None = self._process.stdin
        stdout: IO[str] | None = self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(name + "\n")
        stdin.flush()
        line = stdout.readline()
        if not line:
            raise SystemExit(f"{self._process.args} died at {name}")
        found: dict[str, Any] | None = json.loads(line)
        return found

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()


def limits(threads: int) -> tuple[float, float]:
    """(GB/s of a large copy, GFLOP/s of a large product) on this machine."""
    import numpy as np

    from poseidon_caffe.backend.select import get_ops

    ops = get_ops("cpu", threads)
    a = np.ones((8, 64, 128, 128), np.float32)
    b = np.empty_like(a)
    m = np.ones((2048, 2048), np.float32)
    c = np.empty_like(m)
    copies = _best(lambda: ops.copy(a, b))
    products = _best(lambda: ops.gemm(m, m, c))
    return 2 * a.nbytes / copies / 1e9, 2 * 2048**3 / products / 1e9


def _best(run: Any) -> float:
    times = []
    for _ in range(15):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times[3:])


def compare(case: Case, workers: dict[str, Worker], rounds: int) -> dict[str, Any]:
    """Medians over rounds in which all take turns."""
    times: dict[str, dict[str, list[float]]] = {}
    sizes: dict[str, float] = {}
    for _ in range(rounds):
        for who, worker in workers.items():
            for what, (ms, size) in (worker.measure(case.name) or {}).items():
                times.setdefault(what, {}).setdefault(who, []).append(ms)
                if who == "poseidon":
                    sizes[what] = size
    found: dict[str, Any] = {"case": case.name}
    for what, by in times.items():
        ms = {who: median(values) for who, values in by.items()}
        found[what] = {"ms": ms, "bytes": sizes[what]}
    return found


def shares(case: Case, row: dict[str, Any], limit: tuple[float, float]) -> None:
    """Add each pass's share of the machine's limit and its ratio to PyTorch."""
    for what in PASSES:
        if what not in row:
            continue
        each = row[what]
        ms, flops = each["ms"], case.gflops * (1 if what == "forward" else 2)
        moving = each["bytes"] / 1e9 / limit[0] * 1e3
        each["share"] = max(moving, flops / limit[1] * 1e3) / ms["poseidon"]
        others = [t for who, t in ms.items() if who != "poseidon"]
        each["ratio"] = ms["poseidon"] / min(others) if others else None


def line(row: dict[str, Any]) -> str:
    """A row of the table."""
    cells = [row["case"]]
    for what in PASSES:
        each = row.get(what)
        if each is None:
            cells += ["", "", ""]
            continue
        ratio = each["ratio"]
        share = f"{each['share']:.2f}" if each["share"] < 2 else "free"
        cells += [f"{each['ms']['poseidon']:.3g}", share]
        cells += [f"{ratio:.2f}" if ratio is not None else ""]
    return "| " + " | ".join(cells) + " |\n"


def main() -> None:
    """Measure the chosen cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="*", default=[])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-torch", action="store_true")
    parser.add_argument("--output", default=str(ROOT / "build/bench/layers.json"))
    args = parser.parse_args()
    say = sys.stdout.write
    limit = limits(args.threads)
    say(f"{machine()}; copy {limit[0]:.1f} GB/s, product {limit[1]:.0f} GFLOP/s\n\n")
    say("| layer | forward ms | of the limit | / PyTorch | backward ms |")
    say(" of the limit | / PyTorch |\n" + "| --- " * 7 + "|\n")
    threads = str(args.threads)
    workers = {"poseidon": Worker("poseidon_worker", threads)}
    if not args.no_torch:
        workers["plain"] = Worker("torch_worker", threads, "plain")
        workers["last"] = Worker("torch_worker", threads, "last")
    rows = []
    try:
        for case in CASES:
            if args.cases and case.type not in args.cases:
                continue
            row = compare(case, workers, args.rounds)
            shares(case, row, limit)
            rows.append(row)
            say(line(row))
            sys.stdout.flush()
    finally:
        for worker in workers.values():
            worker.close()
    Path(args.output).parent.mkdir(parents=True, exist_ok=True)
    Path(args.output).write_text(json.dumps({"machine": machine(), "rows": rows}))


if __name__ == "__main__":
    main()
