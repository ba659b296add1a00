"""Text of ``--help``: the list of commands, and one command's flags by group."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from poseidon_caffe import __version__
from poseidon_caffe.cli.flags import Command, Flag, Positional

__all__ = ["command_help", "overview", "version_line"]

_WIDTH = 79
_COLUMN = 30


def version_line() -> str:
    """``poseidon 0.1.0``, and nothing else: scripts read it."""
    return f"poseidon {__version__}\n"


def overview(summaries: Iterable[tuple[str, str]], flags: tuple[Flag, ...]) -> str:
    """Help for the program: every command in a line.

    Args:
        summaries: (name, summary) in the order to show.
        flags: those that every command knows.
    """
    lines = [
        "poseidon: train, test and time Caffe nets",
        "",
        "Usage: poseidon COMMAND [flags]",
        "",
        "Commands:",
        *(f"  {name:27}{summary}" for name, summary in summaries),
        "",
        *_flag_lines("Flags of every command", flags),
        "Flags with a value: --x v, --x=v, -x v or -x=v; booleans: --x or --nox;",
        "before or after the command.",
        "'poseidon COMMAND --help' lists a command's own flags.",
    ]
    return "\n".join(lines) + "\n"


def command_help(command: Command, common: tuple[Flag, ...]) -> str:
    """Help for one command: usage, words, flags by group, examples."""
    words = [
        f"[{word.name}]" if word.optional else word.name for word in command.positionals
    ]
    usage = " ".join(["Usage: poseidon", command.name, "[flags]", *words])
    wrapped = textwrap.wrap(
        usage, _WIDTH, subsequent_indent=" " * len("Usage: "), break_on_hyphens=False
    )
    lines = [f"poseidon {command.name}: {command.summary}", "", *wrapped, ""]
    if command.description:
        for paragraph in command.description.strip().split("\n\n"):
            lines += [*textwrap.wrap(paragraph, _WIDTH), ""]
    if command.positionals:
        lines += _word_lines(command.positionals)
    for group in dict.fromkeys(flag.group for flag in command.flags):
        members = tuple(flag for flag in command.flags if flag.group == group)
        lines += _flag_lines(group, members)
    lines += _flag_lines("Flags of every command", common)
    if command.examples:
        lines += ["Examples:", *(f"  {example}" for example in command.examples), ""]
    return "\n".join(lines).rstrip() + "\n"


def _word_lines(positionals: tuple[Positional, ...]) -> list[str]:
    lines = ["Arguments:"]
    for word in positionals:
        lines += _entry(word.name, word.help)
    return [*lines, ""]


def _flag_lines(group: str, flags: tuple[Flag, ...]) -> list[str]:
    shown = [flag for flag in flags if not flag.hidden]
    if not shown:
        return []
    lines = [f"{group}:"]
    for flag in shown:
        lines += _entry(_spelling(flag), flag.help + _default(flag))
    return [*lines, ""]


def _spelling(flag: Flag) -> str:
    """``--name VALUE``; a boolean that is on shows the form that turns it off."""
    if flag.is_boolean:
        return f"--no{flag.name}" if flag.default else f"--{flag.name}"
    if flag.choices:
        return f"--{flag.name} {'|'.join(filter(None, flag.choices))}"
    return f"--{flag.name} {flag.value or type(flag.default).__name__.upper()}"


def _default(flag: Flag) -> str:
    if flag.is_boolean or flag.default in {"", 0} or "default:" in flag.help:
        return ""
    return f" (default: {flag.default})"


def _entry(left: str, right: str) -> list[str]:
    """One entry in two columns; a long left side stands on a line of its own."""
    pad = " " * _COLUMN
    body = textwrap.wrap(right, _WIDTH - _COLUMN) or [""]
    if len(left) + 3 > _COLUMN:
        return [f"  {left}", *(pad + line for line in body)]
    first = f"  {left}".ljust(_COLUMN) + body[0]
    return [first, *(pad + line for line in body[1:])]
