"""Command-line flags in the style of gflags, which Caffe's tools use.

A flag with a value is written ``--x v``, ``--x=v``, ``-x v`` or ``-x=v``; a
boolean ``--x``, ``--x=true`` or ``--nox`` and never takes the next word.  A switch
is both: ``--x auto``, ``--x=auto``, ``--x`` for on and ``--nox`` for off.  Flags
stand before or after the command word and may come from ``--flagfile=F``.  The
last of several wins, ``--`` ends the flags, and ``-`` in a name is as good as
``_``.

A command is one `Command` in its module::

    COMMAND = Command(
        name="resize",
        summary="Resize the images of a list.",
        flags=(Flag("width", 256, "new width", value="PIXELS"),),
        positionals=(Positional("LISTFILE", "the images"),),
        run=run,
    )


    def run(args: Arguments, log: Glog) -> int:
        width = args.integer("width")
        path = args.word(0)
        return 0
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from poseidon_caffe.errors import UsageError

if TYPE_CHECKING:
    from poseidon_caffe.report.glog import Glog

__all__ = [
    "Arguments",
    "Command",
    "Flag",
    "Positional",
    "Value",
    "parse",
    "suggestion",
]

Value: TypeAlias = "bool | int | float | str"

_TRUE = frozenset({"true", "t", "yes", "y", "on", "1"})
_FALSE = frozenset({"false", "f", "no", "n", "off", "0"})
_DEPTH = 8  # flag files that name flag files


@dataclass(frozen=True)
class Flag:
    """One flag; its type is that of its default.

    Attributes:
        name: as written after the dashes, with underscores.
        default: value when absent; its type (bool, int, float, str) is the flag's.
        help: one or more sentences for ``--help``.
        value: what stands for the value in ``--help``, e.g. ``FILE``.
        choices: the values allowed, or () for any.
        group: heading under which ``--help`` lists it.
        warning: printed once when the flag is given (accepted, but idle here).
        hidden: left out of ``--help``.
        switch: ``choices`` hold on and off, and a boolean's spellings mean these.
        alias: the flag that this is another name of.
    """

    name: str
    default: Value
    help: str
    value: str = ""
    choices: tuple[str, ...] = ()
    group: str = "Flags"
    warning: str = ""
    hidden: bool = False
    switch: bool = False
    alias: str = ""

    @property
    def is_boolean(self) -> bool:
        """Whether the flag takes no value of its own."""
        return isinstance(self.default, bool)

    def convert(self, text: str) -> Value:
        """``text`` as this flag's type.

        Raises:
            UsageError: it is no such value, or not one of ``choices``.
        """
        if isinstance(self.default, bool):
            return self._boolean(text)
        if isinstance(self.default, str):
            if self.switch and text not in self.choices:
                return self._switched(text)
            if self.choices and text not in self.choices:
                known = ", ".join(filter(None, self.choices))
                raise self._wrong(text, f"one of {known}")
            return text
        kind = type(self.default)
        try:
            return kind(text)
        except ValueError:
            expected = "an integer" if kind is int else "a number"
            raise self._wrong(text, expected) from None

    def _boolean(self, text: str) -> bool:
        lowered = text.lower()
        if lowered in _TRUE:
            return True
        if lowered in _FALSE:
            return False
        raise self._wrong(text, "true or false")

    def _switched(self, text: str) -> str:
        """``on`` or ``off`` for a boolean's spellings of them."""
        if text.lower() in _TRUE | _FALSE:
            return "on" if text.lower() in _TRUE else "off"
        raise self._wrong(text, f"one of {', '.join(self.choices)}")

    def _wrong(self, text: str, expected: str) -> UsageError:
        return UsageError(f"--{self.name}: expected {expected}, received '{text}'")


@dataclass(frozen=True)
class Positional:
    """A word that is no flag.

    Attributes:
        name: in capitals, for ``--help``.
        help: what it is.
        optional: may be left out (then all after it are optional too).
        many: it is the last one, and stands once or more often.
    """

    name: str
    help: str
    optional: bool = False
    many: bool = False


@dataclass(frozen=True)
class Arguments:
    """What a command line says, with defaults filled in.

    Attributes:
        values: every flag of the command by name.
        given: names of the flags that were written.
        words: the positional words after the command word.
    """

    values: dict[str, Value]
    given: frozenset[str] = frozenset()
    words: tuple[str, ...] = ()

    def text(self, name: str) -> str:
        """The value of a flag that takes text."""
        value = self.values[name]
        assert isinstance(value, str), f"--{name} is not text"
        return value

    def integer(self, name: str) -> int:
        """The value of a flag that takes an integer."""
        value = self.values[name]
        assert isinstance(value, int), f"--{name} is not an integer"
        return value

    def number(self, name: str) -> float:
        """The value of a flag that takes a number."""
        value = self.values[name]
        assert isinstance(value, int | float), f"--{name} is not a number"
        return float(value)

    def boolean(self, name: str) -> bool:
        """The value of a boolean flag."""
        value = self.values[name]
        assert isinstance(value, bool), f"--{name} is not a boolean"
        return value

    def items(self, name: str) -> list[str]:
        """The comma-separated items of a text flag, blanks dropped."""
        return [item.strip() for item in self.text(name).split(",") if item.strip()]

    def word(self, index: int, default: str = "") -> str:
        """Positional word ``index``, or ``default`` if it was left out."""
        return self.words[index] if index < len(self.words) else default

    def required(self, name: str, why: str) -> str:
        """The text of a flag that must be given.

        Raises:
            UsageError: it is absent or empty.
        """
        value = self.text(name)
        if not value:
            raise UsageError(f"--{name} is missing: {why}")
        return value


@dataclass(frozen=True)
class Command:
    """One command word.

    Attributes:
        name: the word.
        summary: one line for the list of commands.
        run: does the work and returns the exit code; imports what is heavy itself.
        flags: its own flags; those that all commands know are added.
        positionals: the words it takes.
        description: paragraphs below the summary in ``--help``.
        examples: whole command lines for ``--help``.
        clustered: under mpirun all ranks are one run, of which rank 0 tells.
    """

    name: str
    summary: str
    run: Callable[[Arguments, Glog], int]
    flags: tuple[Flag, ...] = ()
    positionals: tuple[Positional, ...] = ()
    description: str = ""
    examples: tuple[str, ...] = ()
    clustered: bool = False


@dataclass
class _Parser:
    """Collects values and words from one argv and the flag files it names."""

    flags: dict[str, Flag]
    values: dict[str, Value] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)

    def take(self, argv: Sequence[str], depth: int = 0) -> None:
        """Read every word of ``argv``."""
        position = 0
        while position < len(argv):
            word = argv[position]
            position += 1
            if word == "--":
                self.words.extend(argv[position:])
                return
            if not word.startswith("-") or word == "-":
                self.words.append(word)
                continue
            name, equals, text = word.lstrip("-").partition("=")
            flag, plain = self._find(word, name, negated_too=not equals)
            if not equals and self._is_bare(flag, argv, position, plain=plain):
                self._set(flag, "true" if plain else "false", depth)
                continue
            if not equals:
                text = self._next(flag, argv, position)
                position += 1
            self._set(flag, text, depth)

    def _is_bare(
        self, flag: Flag, argv: Sequence[str], position: int, *, plain: bool
    ) -> bool:
        """Whether a flag without ``=`` leaves the next word alone."""
        if flag.switch and plain:
            return position >= len(argv) or argv[position] not in flag.choices
        return flag.is_boolean or flag.switch

    def _find(self, word: str, name: str, *, negated_too: bool) -> tuple[Flag, bool]:
        """The flag that ``name`` means, and whether plainly (not ``--noname``)."""
        name = name.replace("-", "_")
        if name in self.flags:
            flag = self.flags[name]
            return self.flags[flag.alias or name], True
        bare = name.removeprefix("no")
        if negated_too and bare != name and bare in self.flags:
            flag = self.flags[bare]
            if flag.is_boolean or flag.switch:
                return flag, False
            raise UsageError(f"{word}: --{bare} takes a value, so it has no --no form")
        raise UsageError(
            f"unknown flag {word.partition('=')[0]}{suggestion(name, self.flags, '--')}"
        )

    def _next(self, flag: Flag, argv: Sequence[str], position: int) -> str:
        """The word after a flag that takes a value."""
        what = flag.value or type(flag.default).__name__.upper()
        if position >= len(argv):
            raise UsageError(f"--{flag.name} needs a value: --{flag.name} {what}")
        text = argv[position]
        if text.startswith("--") and text.lstrip("-").partition("=")[0] in self.flags:
            raise UsageError(
                f"--{flag.name} needs a value, but the flag {text} follows it "
                f"(write --{flag.name}={text} if that is the value)"
            )
        return text

    def _set(self, flag: Flag, text: str, depth: int) -> None:
        if flag.name == "flagfile":
            self._read_file(text, depth + 1)
        else:
            self.values[flag.name] = flag.convert(text)

    def _read_file(self, path: str, depth: int) -> None:
        """Take the flags in ``path``: one a line, ``#`` begins a comment."""
        if depth > _DEPTH:
            raise UsageError(f"--flagfile={path}: flag files name each other for ever")
        try:
            lines = Path(path).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"--flagfile={path}: cannot be read: {error}") from error
        for number, line in enumerate(lines, start=1):
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            try:
                if not text.startswith("-"):
                    raise UsageError(f"expected a flag, received '{text}'")
                first = text.split(None, 1)[0]
                self.take([text] if "=" in first else text.split(None, 1), depth)
            except UsageError as error:
                raise UsageError(f"{path}:{number}: {error}") from error


def suggestion(word: str, known: Iterable[str], prefix: str = "") -> str:
    """``; did you mean ...?`` for a misspelt ``word``, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {prefix}{close[0]}?" if close else ""


def parse(argv: Sequence[str], flags: Sequence[Flag]) -> Arguments:
    """Split ``argv`` into flags and words.

    Args:
        argv: the words after the program's name.
        flags: every flag that may stand there.

    Returns:
        All flags with their values, and the words in order.

    Raises:
        UsageError: an unknown flag (with did-you-mean), a missing or wrong value,
            or a flag file that cannot be read.
    """
    known = {flag.name: flag for flag in flags}
    parser = _Parser(known)
    parser.take(argv)
    values = {flag.name: flag.default for flag in flags} | parser.values
    return Arguments(values, frozenset(parser.values), tuple(parser.words))
