"""``poseidon convert_imageset``: a list of image files to a database of Datums."""

from __future__ import annotations

from typing import Final

from poseidon_caffe.cli.flags import Arguments, Command, Flag, Positional
from poseidon_caffe.cli.logged_notes import LoggedNotes
from poseidon_caffe.report.glog import Glog

__all__ = ["COMMAND", "run"]

_TAG: Final = "convert_imageset.cpp:1"

FLAGS: Final = (
    Flag("gray", False, "treat images as grayscale ones"),
    Flag("shuffle", False, "randomly shuffle the order of images and their labels"),
    Flag(
        "backend",
        "lmdb",
        "the database to make",
        choices=("lmdb", "leveldb"),
    ),
    Flag("resize_width", 0, "width images are resized to", value="PIXELS"),
    Flag("resize_height", 0, "height images are resized to", value="PIXELS"),
    Flag("check_size", False, "check that all images have the same size"),
    Flag("encoded", False, "store compressed images"),
    Flag(
        "encode_type",
        "",
        "what to compress the images as, if --encoded is to change their files",
        value="png|jpg|...",
    ),
)


def run(args: Arguments, log: Glog) -> int:
    """Convert; 0 when the database is in its place."""
    from poseidon_caffe.data.imageset import ImageSetSettings, convert_imageset

    settings = ImageSetSettings(
        root_folder=args.word(0),
        list_file=args.word(1),
        db_name=args.word(2),
        gray=args.boolean("gray"),
        shuffle=args.boolean("shuffle"),
        backend=args.text("backend"),
        resize_width=args.integer("resize_width"),
        resize_height=args.integer("resize_height"),
        check_size=args.boolean("check_size"),
        encoded=args.boolean("encoded"),
        encode_type=args.text("encode_type"),
    )
    convert_imageset(settings, LoggedNotes(log, _TAG))
    return 0


COMMAND = Command(
    name="convert_imageset",
    summary="make an LMDB or LevelDB of the images in a list",
    run=run,
    flags=FLAGS,
    positionals=(
        Positional("ROOTFOLDER/", "put before every path, with its slash at the end"),
        Positional("LISTFILE", 'lines such as "subfolder1/file1.JPEG 7"'),
        Positional("DB_NAME", "the database to make; must not exist yet"),
    ),
    description=(
        "Keys are 00000000_PATH and so on. Images that cannot be read are left out "
        "with an error in the log. The database appears whole or not at all."
    ),
    examples=(
        "poseidon convert_imageset --shuffle images/ train.txt train_lmdb",
        "poseidon convert_imageset --resize_height 256 --resize_width 256 / l.txt db",
    ),
)
