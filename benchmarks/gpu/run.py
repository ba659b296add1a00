"""Poseidon's speed on a GPU, beside PyTorch and beside the GPU's limits.

``make bench-gpu`` runs all parts, each for its share of ``--minutes``; what a part has
no time for is left out, and said.  After every row all results are written to
``build/bench/gpu.json`` (``$OUT/gpu.json`` where OUT is set).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.gpu import kernels, layers, training  # noqa: E402 - by the line above
from benchmarks.gpu.timing import limits  # noqa: E402
from poseidon_caffe.backend.gpu.settings import GpuSettings  # noqa: E402
from poseidon_caffe.backend.select import get_ops  # noqa: E402

PARTS = ("nets", "convolutions", "layers", "kernels")
# When each part ends at the latest, as shares of the whole time.
ENDS = {"nets": 0.6, "convolutions": 0.78, "layers": 0.92, "kernels": 1.0}


class Report:
    """Says and keeps rows while there is time."""

    def __init__(self, path: Path, minutes: float, about: dict[str, Any]) -> None:
        self._path = path
        self._begin, self._seconds = time.monotonic(), 60 * minutes
        self.found: dict[str, Any] = dict(about)

    def late(self, part: str) -> bool:
        """Whether the part's time is over."""
        return time.monotonic() - self._begin > ENDS[part] * self._seconds

    def keep(self, part: str, row: dict[str, Any]) -> None:
        """Add a row and write everything anew."""
        self.found.setdefault(part, []).append(row)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_suffix(".part")
        fresh.write_text(json.dumps(self.found, indent=1), encoding="utf-8")
        fresh.replace(self._path)

    def table(
        self,
        part: str,
        head: str,
        rows: Iterator[dict[str, Any]],
        line: Callable[[dict[str, Any]], str],
    ) -> None:
        """Say and keep rows until the part's time is over."""
        say(head)
        for row in rows:
            self.keep(part, row)
            say(line(row))
            if self.late(part):
                say(f"no time for the rest of: {part}\n")
                return


def say(text: str) -> None:
    """Print at once: the program may be ended at any time."""
    sys.stdout.write(text)
    sys.stdout.flush()


def machine() -> dict[str, Any]:
    """What this runs on."""
    query = "--query-gpu=name,driver_version,memory.total"
    try:
        gpu = subprocess.run(
            ["nvidia-smi", query, "--format=csv,noheader"],
            capture_output=True, text=True, check=True,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        gpu = "no nvidia-smi"
    return {"gpu": gpu, "python": platform.python_version()}


def single(report: Report, parts: list[str], *, tiny: bool) -> None:
    """The parts that run in this process."""
    ops: Any = get_ops("gpu", gpu=GpuSettings())
    limit = limits(ops, tiny=tiny)
    report.found["limits"] = limit
    say(f"{ops.device.name}: copy {limit['copy_gb_s']:.0f} GB/s, ")
    say(f"product {limit['product_tflop_s']:.1f} TFLOP/s in float32\n\n")
    if "convolutions" in parts:
        head = "Convolutions, batch 64, ms\n\n"
        for precision in ("fp32", "tf32"):
            if precision == "tf32":
                ops = get_ops("gpu", gpu=GpuSettings(precision=precision))
            handle = kernels.cudnn_handle(ops, tf32=precision == "tf32")
            tf32 = precision == "tf32"
            made = kernels.convolutions(ops, handle, tf32=tf32, tiny=tiny)
            report.table("convolutions", head, made, kernels.line)
            head = ""
    if "layers" in parts:
        made = layers.rows(ops, limit, tiny=tiny)
        report.table("layers", f"\n{layers.HEAD}", made, layers.line)
    if "kernels" in parts:
        handle = kernels.cudnn_handle(ops, tf32=False)
        made = kernels.others(ops, handle, tiny=tiny)
        report.table("kernels", "\nOther kernels, ms\n\n", made, kernels.line)


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="*", default=list(PARTS), choices=PARTS)
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--models", nargs="*", default=list(training.MODELS))
    parser.add_argument("--batches", nargs="*", type=int, default=training.BATCHES)
    parser.add_argument("--precisions", nargs="*", default=training.PRECISIONS)
    parser.add_argument("--programs", nargs="*", default=training.PROGRAMS)
    parser.add_argument("--tiny", action="store_true", help="tiny shapes, to try it")
    folder = os.environ.get("OUT") or str(ROOT / "build" / "bench")
    parser.add_argument("--output", type=Path, default=Path(folder) / "gpu.json")
    return parser.parse_args()


def main() -> None:
    """Measure the chosen parts, the most telling first."""
    args = arguments()
    about = machine()
    say(f"{about['gpu']}, Python {about['python']}\n\n")
    report = Report(args.output, args.minutes, about)
    if "nets" in args.parts:
        training.run(
            training.order(args.models, args.batches, args.precisions),
            args.programs,
            say,
            lambda row: report.keep("nets", row),
            lambda: report.late("nets"),
        )
        say("\n")
    if set(args.parts) - {"nets"}:
        single(report, args.parts, tiny=args.tiny)
    say(f"\n{args.output}\n")


if __name__ == "__main__":
    main()
