"""Which message is which: MPI tags of the cluster."""

from __future__ import annotations

from typing import Final

from poseidon_caffe.comm.courier import FIRST_DATA_TAG

__all__ = [
    "AGREED",
    "CHUNK",
    "FIRST_BOARD_TAG",
    "HISTORY_WANTED",
    "NORM_FACTORS",
    "NORM_ROWS",
    "REQUESTS",
    "VERDICT",
    "factors_tag",
    "gradient_tag",
    "history_tag",
    "values_tag",
]

REQUESTS: Final = 10
AGREED: Final = 11
NORM_ROWS: Final = 12
NORM_FACTORS: Final = 13
HISTORY_WANTED: Final = 14
VERDICT: Final = 15
FIRST_BOARD_TAG: Final = 100

_FIRST_FACTORS: Final = 1_000_000
_FIRST_HISTORY: Final = 2_000_000

#: Pieces of big arrays, handed from rank to rank.
CHUNK: Final = 3_000_000


def gradient_tag(row: int) -> int:
    """A worker's gradient of a row, to its owner."""
    return FIRST_DATA_TAG + 2 * row


def values_tag(row: int) -> int:
    """A row's new values, from its owner."""
    return FIRST_DATA_TAG + 2 * row + 1


def factors_tag(slot: int, part: int) -> int:
    """Top diffs (part 0) or bottoms (part 1) of a slot."""
    return _FIRST_FACTORS + 2 * slot + part


def history_tag(row: int) -> int:
    """A row's solver history, to whoever writes the snapshot."""
    return _FIRST_HISTORY + row
