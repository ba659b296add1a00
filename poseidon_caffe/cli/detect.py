"""``poseidon detect``: the classes of windows of images, by a trained net."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from poseidon_caffe.cli.flags import Arguments, Command, Flag, Positional
from poseidon_caffe.cli.image_flags import (
    IMAGE_FLAGS,
    given_number,
    mean_of,
    mode_of,
    set_channel_swap,
)
from poseidon_caffe.cli.logged_notes import LoggedNotes
from poseidon_caffe.cli.threads import THREADS, prepare
from poseidon_caffe.errors import DataError, UsageError
from poseidon_caffe.report.glog import Glog

if TYPE_CHECKING:
    from poseidon_caffe.caffe import Detector

__all__ = ["COMMAND", "run"]

_TAG: Final = "detect.py:1"
_COLUMNS: Final = ("ymin", "xmin", "ymax", "xmax")
_FARTHEST: Final = 2**31
_Windows = dict[str, list[list[int]]]

FLAGS: Final = (
    *IMAGE_FLAGS,
    Flag(
        "crop_mode",
        "selective_search",
        "where windows come from: the input file, or Selective Search (a package of "
        "its own)",
        choices=("list", "selective_search"),
    ),
    Flag(
        "context_pad",
        16,
        "how many pixels at each border of the net's input show what surrounds the "
        "window",
        value="PIXELS",
    ),
    THREADS,
)


def run(args: Arguments, log: Glog) -> int:
    """Detect; 0 when the results are in their place."""
    prepare(args.integer("threads"))
    notes = LoggedNotes(log, _TAG)
    with mode_of(args, notes):
        started_s = time.monotonic()
        notes.info("Loading input...")
        listed = _read(args)
        detector = _detector(args)
    if args.text("crop_mode") == "list":
        found = detector.detect_windows(listed.items())
    else:
        found = detector.detect_selective_search(listed)
    spent_s = time.monotonic() - started_s
    notes.info(f"Processed {len(found)} windows in {spent_s:.3f} s.")
    started_s = time.monotonic()
    output = args.word(1)
    (_write_csv if output.lower().endswith("csv") else _write_hdf5)(output, found)
    notes.info(f"Saved to {output} in {time.monotonic() - started_s:.3f} s.")
    return 0


def _detector(args: Arguments) -> Detector:
    from poseidon_caffe.caffe import Detector

    mean = mean_of(args)
    if mean is not None and mean.ndim == 3:
        mean = mean.mean(axis=(1, 2))  # what surrounds a window is one colour
    net = Detector(
        args.text("model_def"),
        args.text("pretrained_model"),
        mean=mean,
        input_scale=given_number(args, "input_scale"),
        raw_scale=args.number("raw_scale"),
    )
    set_channel_swap(net, args)
    net.configure_crop(args.integer("context_pad"))
    return net


def _read(args: Arguments) -> _Windows:
    """Image files in the order they are first named, each with its windows."""
    path, listed = args.word(0), args.text("crop_mode") == "list"
    lowered = path.lower()
    if not lowered.endswith(("txt", "csv")):
        raise UsageError(f"{path}: expected a .txt or .csv file")
    if listed and lowered.endswith("txt"):
        raise UsageError(f"{path}: windows stand in a .csv file: see --help")
    try:
        with Path(path).open(encoding="utf-8", newline="") as file:
            if lowered.endswith("txt"):
                return {line.strip(): [] for line in file if line.strip()}
            return _windows(path, csv.reader(file, skipinitialspace=True), listed)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def _windows(path: str, rows: Iterable[list[str]], listed: bool) -> _Windows:  # noqa: FBT001 - not a switch
    """Windows (ymin, xmin, ymax, xmax) by image; columns stand in any order."""
    lines = iter(rows)
    names = [name.strip() for name in next(lines, [])]
    needed = ("filename", *(_COLUMNS if listed else ()))
    if missing := [name for name in needed if name not in names]:
        raise DataError(
            f"{path}:1: no column {', '.join(missing)}; expected the header "
            "filename,ymin,xmin,ymax,xmax"
        )
    found: _Windows = {}
    for number, row in enumerate(lines, start=2):
        if not row:
            continue
        values = dict(zip(names, row, strict=False))
        windows = found.setdefault(values["filename"], [])
        try:
            windows += [[_pixel(values[name]) for name in _COLUMNS]] if listed else []
        except (KeyError, ValueError, OverflowError) as error:
            msg = f"{path}:{number}: expected a file name and four numbers: {row}"
            raise DataError(msg) from error
    return found


def _pixel(text: str) -> int:
    """A coordinate; pandas writes whole numbers as 3.0 where others are missing."""
    value = int(float(text))
    if abs(value) > _FARTHEST:
        raise ValueError(f"no image has a pixel {text}")
    return value


def _write_csv(path: str, found: list[dict[str, Any]]) -> None:
    """A row for each window: its image, its place, and one column a class."""
    import io

    from poseidon_caffe.schema.atomic import atomic_write

    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    classes = found[0]["prediction"].size if found else 0
    header = ("filename", *_COLUMNS, *(f"class{index}" for index in range(classes)))
    writer.writerow(header)
    for each in found:
        window = [int(edge) for edge in each["window"]]
        writer.writerow([each["filename"], *window, *each["prediction"].ravel()])
    atomic_write(path, text.getvalue().encode())


def _write_hdf5(path: str, found: list[dict[str, Any]]) -> None:
    """The group "df": one dataset a column, one row a window."""
    import numpy as np

    from poseidon_caffe.schema.atomic import atomic_path

    try:
        import h5py
    except ImportError as error:
        msg = (
            f"{path}: writing HDF5 needs the package h5py, which is not installed: "
            "`pip install poseidon-caffe[hdf5]`; or name a .csv file"
        )
        raise UsageError(msg) from error
    places = np.array([each["window"] for each in found], np.int64).reshape(-1, 4)
    predictions = [each["prediction"] for each in found]
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        group = file.create_group("df")
        names = [str(each["filename"]) for each in found]
        group.create_dataset("filename", data=names, dtype=h5py.string_dtype())
        for name, column in zip(_COLUMNS, places.T, strict=True):
            group.create_dataset(name, data=column)
        group.create_dataset("prediction", data=np.array(predictions, np.float32))


COMMAND = Command(
    name="detect",
    summary="classify windows of images with a trained net",
    run=run,
    flags=FLAGS,
    positionals=(
        Positional(
            "INPUT_FILE",
            "a .csv with the columns filename, ymin, xmin, ymax, xmax; for Selective "
            "Search also a .txt with one image file a line",
        ),
        Positional("OUTPUT_FILE", "the .csv or .h5 to write"),
    ),
    description=(
        "A .csv gets the columns filename, ymin, xmin, ymax, xmax, class0, class1 and "
        "so on; any other file is HDF5 with the same columns as datasets of the group "
        "df, all classes of a window in the dataset prediction. Of a mean image, the "
        "mean of each channel is taken."
    ),
    examples=("poseidon detect --crop_mode=list windows.csv out.csv",),
)
