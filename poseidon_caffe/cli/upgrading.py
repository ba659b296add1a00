"""What the three upgrade commands share: their words, and what they log."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from poseidon_caffe.cli.flags import Arguments, Positional
from poseidon_caffe.report.glog import Glog

if TYPE_CHECKING:
    from poseidon_caffe.schema.rewrite import Rewritten

__all__ = ["WORDS", "upgrade"]

WORDS: Final = (
    Positional("IN", "the file to read"),
    Positional("OUT", "the file to write; may be the same"),
)


def upgrade(
    rewrite: Callable[[str, str], Rewritten],
    what: str,
    args: Arguments,
    log: Glog,
) -> int:
    """Rewrite the first word's file as the second's, and log what was done.

    Args:
        rewrite: one of `schema.rewrite`.
        what: the message and its form, ``NetParameter text``.
        args: the command's.
        log: gets Caffe's lines and one for each upgrade.

    Returns:
        0, when the file is in its place.
    """
    source, target = args.word(0), args.word(1)
    tag = f"upgrade_{what.partition('Parameter')[0].lower()}_proto.cpp:1"
    done = rewrite(source, target)
    for note in done.notes:
        log.info(tag, note)
    if done.current:
        log.error(tag, f"File already in latest proto format: {source}")
    log.info(tag, f"Wrote upgraded {what} proto to {target}")
    return 0
