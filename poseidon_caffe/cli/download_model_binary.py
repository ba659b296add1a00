"""``poseidon download_model_binary``: a trained model, by the readme that names it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Final

from poseidon_caffe.cli.flags import Arguments, Command, Flag, Positional
from poseidon_caffe.report.glog import Glog

__all__ = ["COMMAND", "run"]

_INTERVAL_S: Final = 0.1
_MIB: Final = 1 << 20

FLAGS: Final = (
    Flag("from_file", "", "copy the model from this file", value="PATH"),
    Flag(
        "mirror",
        "",
        "download from below this address instead of the readme's",
        value="URL",
    ),
)


def run(args: Arguments, log: Glog) -> int:
    """Fetch and check; 0 when the right file is in its place."""
    from poseidon_caffe.data.model_zoo import fetch_model, read_model

    model = read_model(args.word(0))
    fetched = fetch_model(
        model,
        source=args.text("from_file"),
        mirror=args.text("mirror"),
        progress=_display(log),
    )
    if fetched:
        sys.stdout.write(f"Wrote {model.path}\n")
    else:
        sys.stdout.write("Model already exists.\n")
    return 0


def _display(log: Glog) -> Callable[[int, int], None] | None:
    """Draws a line on a terminal, nothing elsewhere."""
    from poseidon_caffe.report.progress import bar, duration, may_draw

    if not may_draw(log.stream):
        return None
    started_s = shown_s = time.monotonic()

    def show(done: int, total: int) -> None:
        nonlocal shown_s
        now_s = time.monotonic()
        if done != total and now_s - shown_s < _INTERVAL_S:
            return
        shown_s = now_s
        rate = done / max(now_s - started_s, 1e-3)
        line = f"{done / _MIB:.1f} MiB at {rate / _MIB:.1f} MiB/s"
        if total:
            left = duration((total - done) / max(rate, 1.0))
            line = f"{bar(done / total, 24, unicode=False)} {line}, {left} left"
        log.draw(f"\r\x1b[K{line}" + ("\n" if done == total else ""))

    return show


COMMAND = Command(
    name="download_model_binary",
    summary="fetch the trained model that a readme.md names",
    run=run,
    flags=FLAGS,
    positionals=(Positional("DIR", "folder of the model, with its readme.md"),),
    description=(
        "The readme's front matter gives caffemodel, caffemodel_url and sha1. A right "
        "file that is there already is kept; a wrong one is replaced only by the "
        "right one."
    ),
    examples=(
        "poseidon download_model_binary models/bvlc_googlenet",
        "poseidon download_model_binary --from-file ~/g.caffemodel models/googlenet",
    ),
)
