"""Real training between hosts on capped links: ``poseidon train`` beside PyTorch.

``PYTHONPATH=build/bench/site-packages python benchmarks/cluster/compare.py`` (as root)
lets ``poseidon train`` and DistributedDataParallel over gloo take turns on the same
hosts with the same net, batch and threads; figures go to ``build/bench/compare.json``.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks import nets  # noqa: E402
from benchmarks.cluster.namespaces import (  # noqa: E402
    Finished,
    Namespaces,
    address,
    why_not,
)
from benchmarks.cluster.rank import last_result  # noqa: E402
from benchmarks.run import MALLOC, machine  # noqa: E402
from benchmarks.training import solver_file  # noqa: E402

_SPEED = re.compile(r"Iteration \d+ \(([\d.e+-]+) iter/s")
# Lines of the log that come before its speed is steady.
_WARMUP_LINES = 3


class Comparison:
    """Both programs on the same hosts.

    Args:
        hosts: to run on.
        args: the command line.
    """

    def __init__(self, hosts: Namespaces, args: argparse.Namespace) -> None:
        self._hosts, self._args = hosts, args
        self._case = replace(nets.find(args.model), batch=args.batch)
        self.images: int = len(hosts.hosts) * args.batch

    def torch(self, form: str) -> float:
        """Images/s of DistributedDataParallel with its net in this form."""
        args = self._args
        command = [
            sys.executable, "-m", "benchmarks.cluster.ddp", "--model", args.model,
            "--batch", str(args.batch), "--threads", str(args.threads),
            "--iterations", str(args.iterations), "--form", form,
        ]  # fmt: skip
        env = {
            **MALLOC,
            "OMP_NUM_THREADS": str(args.threads),
            "MASTER_ADDR": address(0),
            "GLOO_SOCKET_IFNAME": "eth0",
        }
        done = self._done("torch", self._hosts.run(command, env=env, timeout_s=600))
        return float(last_result(done.stdout)["images_per_s"])

    def poseidon(self) -> float:
        """Images/s of ``poseidon train``, by its own log."""
        iterations = self._args.iterations + _WARMUP_LINES
        solver = solver_file(self._case, iterations, 1)
        command = [
            sys.executable, "-m", "poseidon_caffe", "train", "--solver", str(solver),
            "--threads", str(self._args.threads), *self._args.flags,
        ]  # fmt: skip
        done = self._done("poseidon", self._hosts.run(command, timeout_s=600))
        speeds = [float(x) for x in _SPEED.findall(done.stderr)][_WARMUP_LINES:]
        if not speeds:
            raise SystemExit(f"no speeds in poseidon's log:\n{done.stderr}")
        return float(median(speeds) * self.images)

    @staticmethod
    def _done(name: str, done: Finished) -> Finished:
        if done.code:
            raise SystemExit(f"{name} failed:\n{done.stdout}{done.stderr}")
        return done


def main() -> None:
    """Take turns and print medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="alexnet")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--mbps", type=float, default=1000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["poseidon", "torch plain", "torch last"])
    parser.add_argument(
        "--flags", nargs=argparse.REMAINDER, default=[], help="further ones of poseidon"
    )
    parser.add_argument("--output", default=str(ROOT / "build/bench/compare.json"))
    args = parser.parse_args()
    if reason := why_not():
        raise SystemExit(f"no hosts here: {reason}")
    with Namespaces(args.ranks, args.mbps) as hosts:
        results = _measure(Comparison(hosts, args), args)
    Path(args.output).parent.mkdir(parents=True, exist_ok=True)
    Path(args.output).write_text(json.dumps(results, indent=1), encoding="utf-8")


def _measure(comparison: Comparison, args: argparse.Namespace) -> dict[str, Any]:
    programs: dict[str, Callable[[], float]] = {
        "poseidon": comparison.poseidon,
        "torch plain": lambda: comparison.torch("plain"),
        "torch last": lambda: comparison.torch("last"),
    }
    chosen = [args.only] if args.only else list(programs)
    print(
        f"{machine()}; {args.model} b{args.batch}, {args.ranks} ranks x "
        f"{args.threads} threads, {args.mbps:g} Mbit/s; images/s"
    )
    found: dict[str, list[float]] = {name: [] for name in chosen}
    for _ in range(args.rounds):
        for name in chosen:
            found[name].append(programs[name]())
            print(f"  {name:12s} {found[name][-1]:7.2f}", flush=True)
    middle = {name: median(each) for name, each in found.items()}
    results: dict[str, Any] = {"machine": machine(), "arguments": vars(args)}
    results |= {"images_per_s": middle, "rounds": found}
    if len(chosen) > 1:
        best = max(speed for name, speed in middle.items() if name != "poseidon")
        results["ratio"] = middle["poseidon"] / best
        print(f"poseidon / the better of PyTorch's: {results['ratio']:.2f}")
    return results


if __name__ == "__main__":
    main()
