"""``poseidon parse_log``: a training log as two tables."""

from __future__ import annotations

import sys
from typing import Final

from poseidon_caffe.cli.flags import Arguments, Command, Flag, Positional
from poseidon_caffe.report.glog import Glog

__all__ = ["COMMAND", "run"]

FLAGS: Final = (
    Flag("verbose", False, "print the names of the files written"),
    Flag("delimiter", ",", "what stands between columns; \\t is a tab", value="CHAR"),
)


def run(args: Arguments, _log: Glog) -> int:
    """Parse and write; 0 when the tables are in their place."""
    from poseidon_caffe.report.log_parser import parse_log, write_tables

    path, folder = args.word(0), args.word(1)
    delimiter = args.text("delimiter").replace("\\t", "\t")
    said = write_tables(parse_log(path), path, folder, delimiter)
    if args.boolean("verbose"):
        sys.stdout.writelines(f"{line}\n" for line in said)
    return 0


COMMAND = Command(
    name="parse_log",
    summary="make CSV tables of a training log",
    run=run,
    flags=FLAGS,
    positionals=(
        Positional("LOGFILE", "what a training wrote on stderr, or its log file"),
        Positional("OUTPUT_DIR", "where LOGFILE.train and LOGFILE.test are written"),
    ),
    description=(
        "Columns: NumIters, Seconds (since the line 'Solving ...'), LearningRate, "
        "and each output of the net. Logs of Caffe and of poseidon are read, of one "
        "run or of several one after the other."
    ),
    examples=("poseidon parse_log train.log tables/",),
)
