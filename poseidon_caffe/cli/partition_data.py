"""``poseidon partition_data``: a database cut into N, one for each worker."""

from __future__ import annotations

from typing import Final

from poseidon_caffe.cli.flags import Arguments, Command, Flag, Positional
from poseidon_caffe.cli.logged_notes import LoggedNotes
from poseidon_caffe.errors import UsageError
from poseidon_caffe.report.glog import Glog

__all__ = ["COMMAND", "run"]

_TAG: Final = "partition_data.cpp:1"

FLAGS: Final = (
    Flag("backend", "lmdb", "kind of the databases", choices=("lmdb", "leveldb")),
    Flag(
        "num_partitions",
        2,
        "how many databases to make, if N is not given as a word",
        value="N",
    ),
)


def run(args: Arguments, log: Glog) -> int:
    """Cut; 0 when all parts are in their places.

    Raises:
        UsageError: N is no number, or is given twice and differently.
    """
    from poseidon_caffe.data.partition import PartitionSettings, partition

    settings = PartitionSettings(
        source=args.word(0),
        parts=_parts(args),
        prefix=args.word(2),
        backend=args.text("backend"),
    )
    partition(settings, LoggedNotes(log, _TAG))
    return 0


def _parts(args: Arguments) -> int:
    flag = args.integer("num_partitions")
    word = args.word(1, str(flag))
    if not word.isdecimal() or not int(word):
        raise UsageError(f"N: expected 1 or more, received '{word}'")
    if "num_partitions" in args.given and int(word) != flag:
        raise UsageError(f"N is {word}, but --num_partitions is {flag}: give one")
    return int(word)


COMMAND = Command(
    name="partition_data",
    summary="cut an LMDB or LevelDB into N, one for each worker",
    run=run,
    flags=FLAGS,
    positionals=(
        Positional("DB_PATH", "the database to cut; stays as it is"),
        Positional("N", "how many databases to make", optional=True),
        Positional("PREFIX", "of their names (default: DB_PATH)", optional=True),
    ),
    description=(
        "Record i goes to database i mod N, key and value unchanged: with "
        "data_param { shared_file_system: false }, under which worker r reads "
        "SOURCE_r, each worker then sees the records that it would be dealt from the "
        "whole. Each database appears whole or not at all."
    ),
    examples=(
        "poseidon partition_data train_lmdb 4",
        "poseidon partition_data --backend=leveldb --num_partitions=8 train_leveldb",
    ),
)
