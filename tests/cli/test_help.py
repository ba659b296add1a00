"""The text of ``--help``."""

from __future__ import annotations

from poseidon_caffe.cli.flags import Command, Flag, Positional
from poseidon_caffe.cli.help import command_help, overview

COMMAND = Command(
    name="resize",
    summary="make images smaller",
    run=lambda _args, _log: 0,
    flags=(
        Flag("width", 256, "new width", value="PIXELS"),
        Flag("keep", True, "do not keep the old ones"),
        Flag("gray", False, "without colour"),
        Flag("kind", "png", "of image", choices=("png", "jpg"), group="Output"),
        Flag("a_flag_with_a_very_long_name", "", "long " * 20, value="X"),
        Flag("secret", 1, "not shown", hidden=True),
    ),
    positionals=(Positional("LIST", "the images"), Positional("OUT", "where", True)),
    description="First paragraph.\n\nSecond.",
    examples=("poseidon resize a b",),
)
COMMON = (Flag("help", False, "this"),)


def test_one_command():
    text = command_help(COMMAND, COMMON)
    lines = text.splitlines()
    assert lines[0] == "poseidon resize: make images smaller"
    assert lines[2] == "Usage: poseidon resize [flags] LIST [OUT]"
    assert "  --width PIXELS".ljust(30) + "new width (default: 256)" in lines
    assert "  --nokeep".ljust(30) + "do not keep the old ones" in lines
    assert "  --gray".ljust(30) + "without colour" in lines
    assert "  --kind png|jpg".ljust(30) + "of image (default: png)" in lines
    assert "  LIST".ljust(30) + "the images" in lines
    assert "secret" not in text
    # Groups in the order of their first flag, the common ones last.
    heads = [x for x in lines if x.endswith(":") and not x.startswith(" ")]
    assert heads == [
        "Arguments:",
        "Flags:",
        "Output:",
        "Flags of every command:",
        "Examples:",
    ]
    assert max(map(len, lines)) <= 79
    start = lines.index("  --a_flag_with_a_very_long_name X")
    assert lines[start + 1].startswith(" " * 30 + "long")


def test_the_overview():
    text = overview([("resize", "make images smaller")], COMMON)
    assert "  resize".ljust(29) + "make images smaller\n" in text
    assert "  --help".ljust(30) + "this\n" in text
