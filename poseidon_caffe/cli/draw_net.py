"""``poseidon draw_net``: a picture of a net."""

from __future__ import annotations

from typing import Final

from poseidon_caffe.cli.flags import Arguments, Command, Flag, Positional
from poseidon_caffe.cli.logged_notes import LoggedNotes
from poseidon_caffe.report.glog import Glog

__all__ = ["COMMAND", "run"]

_TAG: Final = "draw_net.py:1"

FLAGS: Final = (
    Flag(
        "rankdir",
        "LR",
        "direction: left to right, right to left, top to bottom or bottom to top",
        choices=("LR", "RL", "TB", "BT"),
    ),
    Flag(
        "phase",
        "ALL",
        "which layers to draw: those of one phase, or all",
        choices=("TRAIN", "TEST", "ALL"),
    ),
    Flag("display_lrm", False, "tell the learning rate multipliers"),
)


def run(args: Arguments, log: Glog) -> int:
    """Draw; 0 when the file is in its place."""
    from poseidon_caffe.caffe.draw import draw_net_to_file
    from poseidon_caffe.schema.upgrade import read_net
    from poseidon_caffe.types import Phase

    notes = LoggedNotes(log, _TAG)
    upgrades: list[str] = []
    net = read_net(args.word(0), upgrades)
    for line in upgrades:
        notes.info(line)
    notes.info(f"Drawing net to {args.word(1)}")
    phase = args.text("phase")
    draw_net_to_file(
        net,
        args.word(1),
        args.text("rankdir"),
        None if phase == "ALL" else Phase[phase],
        args.boolean("display_lrm"),
    )
    return 0


COMMAND = Command(
    name="draw_net",
    summary="draw a net as a picture (Graphviz)",
    run=run,
    flags=FLAGS,
    positionals=(
        Positional("INPUT_NET_PROTO", "the net's prototxt"),
        Positional("OUTPUT_IMAGE", "the picture; its ending tells the format"),
    ),
    description=(
        "Needs the package pydot (`pip install poseidon-caffe[draw]`), and Graphviz "
        "for anything but .dot, .gv and .raw files, which hold the graph as text."
    ),
    examples=(
        "poseidon draw_net train_val.prototxt net.png",
        "poseidon draw_net --rankdir=TB --phase=TEST train_val.prototxt net.svg",
    ),
)
