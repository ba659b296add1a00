"""``poseidon compute_image_mean``: the mean image of a database."""

from __future__ import annotations

from typing import Final

from poseidon_caffe.cli.flags import Arguments, Command, Flag, Positional
from poseidon_caffe.cli.logged_notes import LoggedNotes
from poseidon_caffe.report.glog import Glog

__all__ = ["COMMAND", "run"]

_TAG: Final = "compute_image_mean.cpp:1"

FLAGS: Final = (
    Flag("backend", "lmdb", "kind of the database", choices=("lmdb", "leveldb")),
)


def run(args: Arguments, log: Glog) -> int:
    """Compute and write; 0 when the file is in its place."""
    from poseidon_caffe.data.mean_image import compute_image_mean

    compute_image_mean(
        args.word(0), args.word(1), args.text("backend"), LoggedNotes(log, _TAG)
    )
    return 0


COMMAND = Command(
    name="compute_image_mean",
    summary="compute the mean image of an LMDB or LevelDB",
    run=run,
    flags=FLAGS,
    positionals=(
        Positional("INPUT_DB", "the database"),
        Positional("OUTPUT_FILE", "the .binaryproto to write", optional=True),
    ),
    description=(
        "The log tells the mean of each channel, blue, green and red in that order, "
        "for transform_param { mean_value: ... }."
    ),
    examples=("poseidon compute_image_mean train_lmdb mean.binaryproto",),
)
