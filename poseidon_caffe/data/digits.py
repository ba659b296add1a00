"""Built-in data: the UCI handwritten digits as LMDBs that look like MNIST's.

1,797 real digits of 13 writers, 8x8 pixels of 17 grey levels (`digits_LICENSE.txt`
says whose they are).  ``python -m poseidon_caffe.data.digits DIR`` makes
``DIR/digits_train_lmdb`` (1,437 records) and ``DIR/digits_test_lmdb`` (360).
"""

from __future__ import annotations

import importlib.resources
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from poseidon_caffe.data.datum import array_to_datum
from poseidon_caffe.data.db import create_db, open_db
from poseidon_caffe.data.resize import resize
from poseidon_caffe.errors import DataError, PoseidonError
from poseidon_caffe.types import Array

__all__ = ["Digits", "build_digits", "load_digits", "main"]

_SIDE, _BODY = 28, 20  # MNIST: digits of 20x20 in the middle of 28x28
_LEVELS = 16
_TEST_COUNT = 360
_SPLIT_SEED = 1797


@dataclass(frozen=True)
class Digits:
    """Images and classes.

    Attributes:
        images: uint8 (N, 28, 28), 0 is paper and 255 ink, as in MNIST.
        labels: uint8 (N,), 0 to 9.
    """

    images: Array
    labels: Array


def load_digits() -> tuple[Digits, Digits]:
    """The digits enlarged to 28x28: (train, test), shuffled, always the same."""
    file = importlib.resources.files(__package__).joinpath("digits.npz")
    with file.open("rb") as stream, np.load(stream) as stored:
        small, labels = stored["images"], stored["labels"]
    levels = (small.astype(np.uint16) * 255 + _LEVELS // 2) // _LEVELS
    body = resize(levels.astype(np.uint8), _BODY, _BODY)
    margin = (_SIDE - _BODY) // 2
    images = np.pad(body, ((0, 0), (margin, margin), (margin, margin)))
    # RandomState's permutation is frozen by NumPy, a Generator's is not.
    order = np.random.RandomState(_SPLIT_SEED).permutation(len(labels))
    train, test = order[:-_TEST_COUNT], order[-_TEST_COUNT:]
    return Digits(images[train], labels[train]), Digits(images[test], labels[test])


def build_digits(directory: str | Path) -> list[Path]:
    """Make the two LMDBs in ``directory``, unless they are there.

    Each is written whole or not at all.

    Returns:
        The folders that were made now: none, one or both.

    Raises:
        DataError: the folder cannot be written, or holds something else by the name.
    """
    folder = Path(directory)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: cannot be made ({error.strerror})") from error
    parts = zip(("train", "test"), load_digits(), strict=True)
    targets = [(folder / f"digits_{name}_lmdb", digits) for name, digits in parts]
    missing = [(target, digits) for target, digits in targets if not target.exists()]
    for target, digits in targets:
        if target.exists():
            _check(target, len(digits.labels))
    for target, digits in missing:
        _write(target, digits)
    return [target for target, _ in missing]


def _write(target: Path, digits: Digits) -> None:
    with create_db(str(target)) as writer:
        for index, (image, label) in enumerate(
            zip(digits.images, digits.labels, strict=True)
        ):
            datum = array_to_datum(image[np.newaxis], int(label))
            writer.put(b"%08d" % index, datum.SerializeToString())


def _check(target: Path, wanted: int) -> None:
    database = open_db(str(target))
    found = len(database)
    database.close()
    if found != wanted:
        raise DataError(
            f"{target}: holds {found} records, the built-in digits are {wanted}; "
            "remove the folder to have it made again"
        )


def main(words: list[str]) -> int:
    """``python -m poseidon_caffe.data.digits DIR``; the exit code."""
    if len(words) != 1 or words[0].startswith("-"):
        sys.stderr.write("usage: python -m poseidon_caffe.data.digits DIR\n")
        return 1
    try:
        made = build_digits(words[0])
    except PoseidonError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    for target in made:
        sys.stderr.write(f"made {target}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
