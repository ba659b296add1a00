"""``poseidon plot_log``: loss, accuracy and learning rate of trainings as a picture."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from poseidon_caffe.cli.flags import Arguments, Command, Flag, Positional
from poseidon_caffe.errors import UsageError
from poseidon_caffe.report.glog import Glog

if TYPE_CHECKING:
    from poseidon_caffe.report.plot import NamedLog

__all__ = ["COMMAND", "run"]

_TAG: Final = "plot_log.py:1"
_CAFFE_WORDS: Final = 3

FLAGS: Final = (
    Flag("out", "", "the picture to write: .png, .svg or .pdf", value="FILE"),
    Flag("o", "", "", alias="out", hidden=True),
    Flag("x", "iters", "what runs along the picture", choices=("iters", "seconds")),
)


def run(args: Arguments, log: Glog) -> int:
    """Draw; 0 when the picture is in its place.

    Raises:
        UsageError: no picture named, an unknown chart, or nothing to draw.
    """
    from poseidon_caffe.report.plot import CHARTS, Axis, plot_logs

    words, target, number = args.words, args.text("out"), -1
    if words[0].isdecimal() and not Path(words[0]).exists():
        number, words = int(words[0]), words[1:]
        if not target and len(words) >= _CAFFE_WORDS - 1:
            target, words = words[0], words[1:]
        if number >= len(CHARTS):
            known = "; ".join(f"{i}: {each.title}" for i, each in enumerate(CHARTS))
            raise UsageError(f"no chart of the number {number}; known: {known}")
    if not target:
        raise UsageError("-o is missing: the picture to write, such as training.png")
    if not words:
        raise UsageError("no log is named")
    axis = Axis.SECONDS if args.text("x") == "seconds" else Axis.ITERATIONS
    chart = CHARTS[number] if number >= 0 else None
    plot_logs(_named(words), target, chart, axis)
    log.info(_TAG, f"Wrote {target}")
    return 0


def _named(paths: tuple[str, ...]) -> list[NamedLog]:
    """The logs; those whose files are called alike keep their folders."""
    from poseidon_caffe.report.log_parser import parse_log
    from poseidon_caffe.report.plot import NamedLog

    short = [Path(path).name.removesuffix(".log") for path in paths]
    often = Counter(short)
    return [
        NamedLog(name if often[name] == 1 else path, parse_log(path))
        for name, path in zip(short, paths, strict=True)
    ]


COMMAND = Command(
    name="plot_log",
    summary="draw loss, accuracy and learning rate of training logs",
    run=run,
    flags=FLAGS,
    positionals=(Positional("LOG...", "logs of Caffe or poseidon", many=True),),
    description=(
        "All diagrams stand below each other, and a log keeps its colour. Caffe's "
        "words do too: CHART_TYPE OUT.png LOG..., with 0 and 1 for the test "
        "accuracy, 2 and 3 the test loss, 4 and 5 the learning rate, 6 and 7 the "
        "training loss; even numbers by iterations, odd ones by seconds. Needs "
        'matplotlib: pip install "poseidon-caffe[plot]".'
    ),
    examples=(
        "poseidon plot_log -o training.png train.log",
        "poseidon plot_log -x seconds -o both.svg a.log b.log",
        "poseidon plot_log 6 loss.png a.log b.log",
    ),
)
