"""Emulated nets between hosts on capped links: how well communication hides.

``python benchmarks/cluster/run_emulated.py`` (as root) prints a table in Markdown and
keeps the figures as JSON in ``build/bench/emulated.json``.  10 Gbit/s is shown in slow
motion: ten times the compute time on links of 1 Gbit/s.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.cluster.namespaces import Namespaces, why_not  # noqa: E402
from benchmarks.cluster.rank import last_result  # noqa: E402
from benchmarks.cluster.workload import WORKLOADS  # noqa: E402
from benchmarks.run import machine  # noqa: E402

TARGET = 1.15
LINK_MBPS = 1000.0


@dataclass(frozen=True)
class Trial:
    """One run.

    Attributes:
        net: of `WORKLOADS`.
        gbps: rate of the links that are meant.
        overlap, svb, priority: what is switched on.
    """

    net: str
    gbps: int
    overlap: str = "on"
    svb: str = "auto"
    priority: str = "on"

    @property
    def slow(self) -> float:
        """Factor on times that makes the real links look like those meant."""
        return self.gbps * 1000 / LINK_MBPS


def trials(nets: list[str], rates: list[int]) -> Iterator[Trial]:
    """All combinations; priority says nothing without overlap."""
    for net in nets:
        for gbps in rates:
            for svb in ("auto", "off"):
                yield Trial(net, gbps, "on", svb, "on")
                yield Trial(net, gbps, "on", svb, "off")
                yield Trial(net, gbps, "off", svb, "on")


def measure(hosts: Namespaces, trial: Trial, iterations: int) -> dict[str, Any]:
    """Run a trial and hold it against its bound; times are those meant.

    Iterations of many seconds, by rows or in slow motion, are few.
    """
    is_long = trial.svb == "off" or trial.slow > 1
    counts = ["1", "3"] if is_long else ["3", str(iterations)]
    command = [
        sys.executable, "-m", "benchmarks.cluster.emulated",
        "--net", trial.net, "--slow", str(trial.slow), "--overlap", trial.overlap,
        "--svb", trial.svb, "--priority", trial.priority,
        "--warmup", counts[0], "--iterations", counts[1],
    ]  # fmt: skip
    done = hosts.run(command, timeout_s=900)
    if done.code:
        raise SystemExit(f"{trial} failed:\n{done.stdout}{done.stderr}")
    result = last_result(done.stdout)
    wire_s = result["link_bytes"] / (LINK_MBPS / 8 * 1e6)
    bound_s = max(result["compute_s"], wire_s)
    for name in ("compute_s", "busy_s", "iteration_s", "mean_s"):
        result[name] /= trial.slow
    result["images_per_s"] *= trial.slow
    return {
        **asdict(trial),
        **result,
        "wire_s": wire_s / trial.slow,
        "bound_s": bound_s / trial.slow,
        "ratio": result["iteration_s"] * trial.slow / bound_s,
    }


def row(found: dict[str, Any]) -> str:
    """A line of the table."""
    cells = [
        found["net"],
        f"{found['gbps']} Gbit/s",
        found["overlap"],
        "on" if found["svb"] == "auto" else "off",
        found["priority"] if found["overlap"] == "on" else "",
        f"{found['payload_bytes'] / 1e6:.1f}",
        f"{found['compute_s']:.3f}",
        f"{found['wire_s']:.3f}",
        f"{found['iteration_s']:.3f}",
        f"{found['ratio']:.2f}",
        f"{found['images_per_s']:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


HEAD = (
    "| net | link | overlap | factors | priority | MB sent | compute s | "
    "bytes / bandwidth s | iteration s | ratio to the larger | images/s |\n"
    f"|{' --- |' * 11}"
)


def main() -> None:
    """Run the chosen trials."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nets", nargs="*", default=list(WORKLOADS))
    parser.add_argument("--rates", nargs="*", type=int, default=[1, 10], help="Gbit/s")
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--iterations", type=int, default=8)
    parser.add_argument("--best-only", action="store_true", help="everything on")
    parser.add_argument("--output", default=str(ROOT / "build/bench/emulated.json"))
    args = parser.parse_args()
    if reason := why_not():
        raise SystemExit(f"no hosts here: {reason}")
    results: dict[str, Any] = {"machine": machine(), "ranks": args.ranks, "trials": []}
    print(f"{results['machine']}; {args.ranks} ranks\n\n{HEAD}")
    with Namespaces(args.ranks, LINK_MBPS) as hosts:
        for trial in trials(args.nets, args.rates):
            if args.best_only and trial != Trial(trial.net, trial.gbps):
                continue
            found = measure(hosts, trial, args.iterations)
            results["trials"].append(found)
            print(row(found), flush=True)
    path = Path(args.output)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1), encoding="utf-8")
    best = [each for each in results["trials"] if _is_best(each)]
    missed = [f"{x['net']} {x['gbps']} Gbit/s" for x in best if x["ratio"] > TARGET]
    print(f"\nabove {TARGET}: {', '.join(missed) or 'none'}")


def _is_best(found: dict[str, Any]) -> bool:
    flags = {name: found[name] for name in ("net", "gbps", "overlap", "svb")}
    return Trial(**flags, priority=found["priority"]) == Trial(
        found["net"], found["gbps"]
    )


if __name__ == "__main__":
    main()
