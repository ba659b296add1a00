"""The ``poseidon`` program: finds the command, parses its flags, runs it.

Nothing heavy is imported before a command runs, so that ``--help`` is instant
and thread counts are set before NumPy makes its pools.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from poseidon_caffe.cli.common import COMMON, legacy_flags
from poseidon_caffe.cli.flags import Arguments, Command, Flag, parse, suggestion
from poseidon_caffe.cli.help import command_help, overview, version_line
from poseidon_caffe.cli.launched import launched, silence, tell_of_rank
from poseidon_caffe.errors import ClusterError, UsageError
from poseidon_caffe.report import tags
from poseidon_caffe.report.console import FAILED, tell
from poseidon_caffe.report.glog import Glog, LogFiles

__all__ = ["COMMANDS", "load", "run"]

COMMANDS: Final = (
    "train",
    "test",
    "time",
    "device_query",
    "convert_imageset",
    "compute_image_mean",
    "upgrade_net_proto_text",
    "upgrade_net_proto_binary",
    "upgrade_solver_proto_text",
    "draw_net",
    "classify",
    "detect",
    "parse_log",
    "plot_log",
    "download_model_binary",
    "extract_features",
    "partition_data",
)
"""Each is a module of this package with a ``COMMAND``."""

_MIN_LEVEL: Final = "GLOG_minloglevel"
_LOG_DIR: Final = "GLOG_log_dir"


@dataclass(frozen=True)
class _Call:
    """A command with the arguments it was given."""

    command: Command
    args: Arguments


def load(name: str) -> Command:
    """The command called ``name``, imported now."""
    command = importlib.import_module(f"poseidon_caffe.cli.{name}").COMMAND
    assert isinstance(command, Command)
    return command


def run(argv: Sequence[str] | None = None) -> int:
    """Run the program.

    Args:
        argv: words after the program's name; those of the process if None.

    Returns:
        Exit code: 0, or 1 after an error, which is one line on stderr (130 when
        interrupted, 141 when the reader of the output has gone).
    """
    words = list(sys.argv[1:] if argv is None else argv)
    log = Glog(min_level=_level(os.environ.get(_MIN_LEVEL, "")))
    debug = any(word in {"--debug", "-debug"} for word in words)
    try:
        code = _dispatch(words, log)
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the one net
        return _tell(log, error, words, debug=debug)
    else:
        return code
    finally:
        log.close()


def _tell(log: Glog, error: BaseException, words: Sequence[str], *, debug: bool) -> int:
    """Say what went wrong; the exit code."""
    rank = 0
    with contextlib.suppress(ClusterError):
        rank = launched().rank
    if rank:
        return tell_of_rank(log, error, rank, debug=debug)
    hints = (_see_help(words),) if isinstance(error, UsageError) else ()
    return tell(log, error, debug=debug, hints=hints)


def _dispatch(words: list[str], log: Glog) -> int:
    words = ["--help" if word == "-h" else word for word in words]
    if words[:1] == ["help"]:
        words = [*words[1:], "--help"]
    call = _find(words)
    if call is None:
        return _without_command(words)
    args = call.args
    if args.boolean("version"):
        sys.stdout.write(version_line())
        return 0
    if args.boolean("help"):
        sys.stdout.write(command_help(call.command, COMMON))
        return 0
    _configure(log, call)
    _warn(log, call)
    _check_words(call)
    return call.command.run(args, log)


def _find(words: Sequence[str]) -> _Call | None:
    """The command among ``words``: the first that is no flag's value.

    Flags may stand before it, and which of them take the next word depends on the
    command; so each word that names a command is tried.
    """
    problem: UsageError | None = None
    for name in dict.fromkeys(word for word in words if word in COMMANDS):
        command = load(name)
        try:
            args = parse(words, _flags_of(command))
        except UsageError as error:
            problem = problem or error
            continue
        if args.words and args.words[0] == name:
            return _Call(command, replace(args, words=args.words[1:]))
    if problem is not None:
        raise problem
    return None


def _flags_of(command: Command) -> tuple[Flag, ...]:
    """Its own flags, the common ones, and the original's where no own one is."""
    own = (*command.flags, *COMMON)
    names = {flag.name for flag in own}
    return (*own, *(flag for flag in legacy_flags() if flag.name not in names))


def _without_command(words: Sequence[str]) -> int:
    """Answer a command line that names no command."""
    plain = {word.lstrip("-") for word in words if word.startswith("-")}
    if "version" in plain:
        sys.stdout.write(version_line())
        return 0
    if "help" in plain or not words:
        summaries = [(name, load(name).summary) for name in COMMANDS]
        text = overview(summaries, COMMON)
        (sys.stdout if words else sys.stderr).write(text)
        return 0 if words else FAILED
    if words[0].startswith("-"):
        raise UsageError(f"no command given; one of: {', '.join(COMMANDS)}")
    raise UsageError(
        f"unknown command '{words[0]}'{suggestion(words[0], COMMANDS)}"
        f"; known: {', '.join(COMMANDS)}"
    )


def _configure(log: Glog, call: _Call) -> None:
    """Apply glog's flags, or the environment variables of the same names.

    Where several ranks are one run, rank 0 alone logs on stderr, and each of the
    others in a file of its own, if there are files.
    """
    args, rank = call.args, launched().rank if call.command.clustered else 0
    if args.integer("minloglevel") >= 0:
        log.min_level = args.integer("minloglevel")
    if rank:
        silence(log)
    folder = args.text("log_dir") or os.environ.get(_LOG_DIR, "")
    if folder:
        program = f"poseidon.rank{rank}" if rank else "poseidon"
        log.files = LogFiles(Path(folder), program)


def _warn(log: Glog, call: _Call) -> None:
    """One line for each flag that is accepted and does nothing."""
    for flag in _flags_of(call.command):
        if flag.warning and flag.name in call.args.given:
            log.warning(tags.POSEIDON, f"--{flag.name} {flag.warning}")


def _check_words(call: _Call) -> None:
    """Compare the words given with those the command takes."""
    words, takes = call.args.words, call.command.positionals
    usage = " ".join(each.name for each in takes) or "no further words"
    needed = sum(not each.optional for each in takes)
    if len(words) > len(takes) and not (takes and takes[-1].many):
        raise UsageError(
            f"unexpected word '{words[len(takes)]}': "
            f"poseidon {call.command.name} takes {usage}"
        )
    if len(words) < needed:
        missing = takes[len(words)]
        raise UsageError(f"{missing.name} is missing: {missing.help}")


def _level(text: str) -> int:
    return int(text) if text.isdigit() else 0


def _see_help(words: Sequence[str]) -> str:
    named = next((f"{word} " for word in words if word in COMMANDS), "")
    return f"see 'poseidon {named}--help'"
