"""``poseidon classify``: the classes of images, by a trained net."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from poseidon_caffe.cli.flags import Arguments, Command, Flag, Positional
from poseidon_caffe.cli.image_flags import (
    IMAGE_FLAGS,
    given_number,
    load_array,
    mean_of,
    mode_of,
    set_channel_swap,
)
from poseidon_caffe.cli.logged_notes import LoggedNotes
from poseidon_caffe.cli.threads import THREADS, prepare
from poseidon_caffe.errors import DataError, UsageError
from poseidon_caffe.report.glog import Glog

if TYPE_CHECKING:
    from collections.abc import Sequence

    from poseidon_caffe.caffe import Classifier
    from poseidon_caffe.types import Array

__all__ = ["COMMAND", "run"]

_TAG: Final = "classify.py:1"

FLAGS: Final = (
    *IMAGE_FLAGS,
    Flag(
        "center_only",
        False,
        "look at the centre of each image alone; else the mean over ten crops",
    ),
    Flag(
        "images_dim",
        "256,256",
        "what images are resized to before they are cropped",
        value="HEIGHT,WIDTH",
    ),
    Flag("ext", "jpg", "which files to take if the input is a folder", value="ENDING"),
    THREADS,
)


def run(args: Arguments, log: Glog) -> int:
    """Classify; 0 when the predictions are in their place."""
    prepare(args.integer("threads"))
    import numpy as np

    from poseidon_caffe.schema.atomic import atomic_path

    notes = LoggedNotes(log, _TAG)
    with mode_of(args, notes):
        net = _classifier(args)
    channels = net.blobs[net.inputs[0]].shape[1]
    inputs = _inputs(args, notes, color=channels != 1)
    notes.info(f"Classifying {len(inputs)} inputs.")
    started_s = time.monotonic()
    predictions = net.predict(inputs, not args.boolean("center_only"))
    notes.info(f"Done in {time.monotonic() - started_s:.2f} s.")
    output = args.word(1) if args.word(1).endswith(".npy") else f"{args.word(1)}.npy"
    notes.info(f"Saving results into {output}")
    with atomic_path(output) as temporary, temporary.open("xb") as file:
        np.save(file, predictions)
    return 0


def _classifier(args: Arguments) -> Classifier:
    from poseidon_caffe.caffe import Classifier

    dims = args.items("images_dim")
    if len(dims) != 2 or not all(item.isdigit() and int(item) for item in dims):
        given = args.text("images_dim")
        raise UsageError(f"--images_dim: expected HEIGHT,WIDTH, received '{given}'")
    net = Classifier(
        args.text("model_def"),
        args.text("pretrained_model"),
        image_dims=[int(item) for item in dims],
        mean=mean_of(args),
        input_scale=given_number(args, "input_scale"),
        raw_scale=args.number("raw_scale"),
    )
    set_channel_swap(net, args)
    return net


def _inputs(args: Arguments, notes: LoggedNotes, *, color: bool) -> Sequence[Array]:
    """Images (H, W, K): of an array, of a folder's files, or of one file."""
    from poseidon_caffe.caffe.io import load_image

    path = Path(args.word(0)).expanduser()
    if path.is_dir():
        notes.info(f"Loading folder: {path}")
        ending = args.text("ext").lstrip(".")
        files = sorted(path.glob(f"*.{ending}"))
        if not files:
            raise DataError(f"{path}: no files *.{ending} in this folder: see --ext")
        return [load_image(file, color) for file in files]
    notes.info(f"Loading file: {path}")
    if path.suffix != ".npy":
        return [load_image(path, color)]
    images = load_array(str(path))
    if images.ndim != 4:
        raise DataError(
            f"{path}: expected images (N, height, width, channels), this array is "
            f"{images.shape}"
        )
    return list(images)


COMMAND = Command(
    name="classify",
    summary="classify images with a trained net",
    run=run,
    flags=FLAGS,
    positionals=(
        Positional("INPUT_FILE", "an image, a folder of images, or images as .npy"),
        Positional("OUTPUT_FILE", "the .npy to write: one row an image"),
    ),
    description=(
        "Images of a folder are taken in the order of their names. An .npy file holds "
        "images (N, height, width, channels) from 0 to 1 in the order red, green, blue."
    ),
    examples=(
        "poseidon classify --center_only --mean_file=mean.binaryproto cat.jpg out.npy",
    ),
)
