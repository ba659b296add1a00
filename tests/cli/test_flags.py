"""gflags' spellings, types and errors."""

from __future__ import annotations

import pytest

from poseidon_caffe.cli.flags import Arguments, Flag, parse, suggestion
from poseidon_caffe.errors import UsageError

FLAGS = (
    Flag("solver", "", "text", value="FILE"),
    Flag("iterations", 50, "integer"),
    Flag("rate", 0.5, "number"),
    Flag("shuffle", False, "off by default"),
    Flag("progress", True, "on by default"),
    Flag("effect", "stop", "choice", choices=("stop", "none")),
    Flag("notes", "", "a name that begins with 'no'"),
    Flag("flagfile", "", "file"),
)


def given(*argv: str) -> Arguments:
    return parse(argv, FLAGS)


def wrong(*argv: str) -> str:
    with pytest.raises(UsageError) as caught:
        given(*argv)
    return str(caught.value)


@pytest.mark.parametrize(
    "argv",
    [("--solver", "s"), ("--solver=s",), ("-solver", "s"), ("-solver=s",)],
)
@pytest.mark.parametrize("before", [True, False])
def test_a_value_in_each_spelling_around_the_word(argv, before):
    args = given(*argv, "train") if before else given("train", *argv)
    assert args.text("solver") == "s"
    assert args.words == ("train",)
    assert args.given == {"solver"}


def test_defaults_and_types():
    args = given("--iterations", "7", "-rate=1e-3")
    assert args.integer("iterations") == 7
    assert args.number("rate") == 0.001
    assert args.number("iterations") == 7.0
    assert args.boolean("progress") is True
    assert args.text("effect") == "stop"


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("--shuffle", True),
        ("-shuffle", True),
        ("--noshuffle", False),
        ("--shuffle=true", True),
        ("--shuffle=1", True),
        ("--shuffle=False", False),
        ("--shuffle=no", False),
    ],
)
def test_booleans(word, value):
    assert given(word).boolean("shuffle") is value


def test_a_boolean_never_takes_the_next_word():
    args = given("--shuffle", "true", "--noprogress", "false")
    assert args.words == ("true", "false")
    assert args.boolean("shuffle")
    assert not args.boolean("progress")


def test_the_last_one_wins_and_dashes_are_underscores():
    flags = (Flag("sigint_effect", "stop", ""),)
    args = parse(["--sigint_effect=a", "--sigint-effect", "b"], flags)
    assert args.text("sigint_effect") == "b"


def test_two_dashes_end_the_flags():
    assert given("a", "--", "--solver", "-x").words == ("a", "--solver", "-x")


def test_a_lone_dash_is_a_word():
    assert given("-").words == ("-",)


def test_values_with_equals_signs_blanks_and_minus():
    assert given("--solver=a=b c").text("solver") == "a=b c"
    assert given("--iterations", "-3").integer("iterations") == -3
    assert given("--solver=").text("solver") == ""


def test_a_name_that_begins_with_no_is_no_negation():
    assert given("--notes", "x").text("notes") == "x"


@pytest.mark.parametrize(
    ("argv", "parts"),
    [
        (["--solvr", "x"], ["unknown flag --solvr", "did you mean --solver?"]),
        (["-zzz"], ["unknown flag -zzz"]),
        (["--solver"], ["--solver needs a value", "FILE"]),
        (
            ["--solver", "--iterations=3"],
            ["--solver needs a value", "--iterations=3 follows"],
        ),
        (["--iterations", "many"], ["--iterations", "an integer", "'many'"]),
        (["--rate=fast"], ["--rate", "a number", "'fast'"]),
        (["--shuffle=maybe"], ["--shuffle", "true or false", "'maybe'"]),
        (["--effect=x"], ["--effect", "one of stop, none", "'x'"]),
        (["--nosolver"], ["--nosolver", "takes a value"]),
        (["--noshuffle=true"], ["unknown flag --noshuffle"]),
    ],
)
def test_errors_name_the_flag(argv, parts):
    message = wrong(*argv)
    for part in parts:
        assert part in message


def test_flagfile(tmp_path):
    inner = tmp_path / "inner.flags"
    inner.write_text("--rate 2\n")
    outer = tmp_path / "outer.flags"
    outer.write_text(
        f"# a comment\n\n--solver=a b.prototxt\n-shuffle\n--flagfile={inner}\n"
    )
    args = given("train", f"--flagfile={outer}", "--iterations=1")
    assert args.text("solver") == "a b.prototxt"
    assert args.boolean("shuffle")
    assert args.number("rate") == 2.0
    assert args.integer("iterations") == 1
    assert args.words == ("train",)


def test_flagfile_errors_name_file_and_line(tmp_path):
    path = tmp_path / "bad.flags"
    path.write_text("--rate=1\n--shufle\n")
    assert f"{path}:2: unknown flag --shufle" in wrong(f"--flagfile={path}")
    path.write_text("stray\n")
    assert f"{path}:1: expected a flag, received 'stray'" in wrong(
        "--flagfile", str(path)
    )
    assert "cannot be read" in wrong("--flagfile=/does/not/exist")
    path.write_text(f"--flagfile={path}\n")
    assert "for ever" in wrong(f"--flagfile={path}")


def test_items_words_and_required():
    args = given("--solver= a, b,,c ", "w")
    assert args.items("solver") == ["a", "b", "c"]
    assert args.word(0) == "w"
    assert args.word(1, "d") == "d"
    with pytest.raises(UsageError, match="--notes is missing: say why"):
        args.required("notes", "say why")


def test_suggestion():
    assert suggestion("trian", ["train", "test"]) == "; did you mean train?"
    assert suggestion("xyzzy", ["train", "test"]) == ""
