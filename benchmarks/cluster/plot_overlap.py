"""Draws what `run_emulated.py` measured: iteration times beside their bounds.

``PYTHONPATH=build/bench/site-packages python benchmarks/cluster/plot_overlap.py``
reads ``build/bench/emulated.json`` and writes ``docs/images/overlap.png``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_WAYS = (
    ("all on", {"overlap": "on", "svb": "auto", "priority": "on"}),
    ("no priority", {"overlap": "on", "svb": "auto", "priority": "off"}),
    ("no overlap", {"overlap": "off", "svb": "auto", "priority": "on"}),
    ("rows only", {"overlap": "on", "svb": "off", "priority": "on"}),
    ("rows, no priority", {"overlap": "on", "svb": "off", "priority": "off"}),
    ("rows, no overlap", {"overlap": "off", "svb": "off", "priority": "on"}),
)


def main() -> None:
    """Draw one panel a net and link."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", default=str(ROOT / "build/bench/emulated.json"))
    parser.add_argument("--output", default=str(ROOT / "docs/images/overlap.png"))
    args = parser.parse_args()
    found = json.loads(Path(args.input).read_text(encoding="utf-8"))
    draw(found["trials"], args.output)


def draw(trials: list[dict[str, Any]], path: str) -> None:
    """Bars of the measured time, a line at each bound."""
    # Kept out of the project's own environment, so imported where it is used.
    from matplotlib import pyplot as plt

    panels = list(dict.fromkeys((t["net"], t["gbps"]) for t in trials))
    figure, axes = plt.subplots(1, len(panels), figsize=(4 * len(panels), 3.4))
    for axis, (net, gbps) in zip(axes, panels, strict=True):
        chosen = [t for t in trials if (t["net"], t["gbps"]) == (net, gbps)]
        for i, (_, flags) in enumerate(_WAYS):
            trial = next(t for t in chosen if flags.items() <= t.items())
            axis.bar(i, trial["iteration_s"], color="C0" if i == 0 else "C7")
            bound_s = trial["bound_s"]
            axis.plot([i - 0.45, i + 0.45], [bound_s, bound_s], color="C3")
        axis.set_title(f"{net}, {gbps} Gbit/s")
        names = [name for name, _ in _WAYS]
        axis.set_xticks(range(len(names)), names, rotation=60, ha="right")
        axis.set_ylabel("s an iteration")
    figure.suptitle("Iteration time; red: the larger of compute and bytes / bandwidth")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
