"""The original Poseidon's host file, read only to say how mpirun wants it."""

from __future__ import annotations

from pathlib import Path

from poseidon_caffe.errors import UsageError

__all__ = ["advice", "read_hosts"]

_SLOTS = ("slots", "max_slots", "max-slots")


def read_hosts(path: str) -> list[str]:
    """Hosts of a file with lines ``id ip port``, or of one for mpirun.

    Raises:
        UsageError: the file cannot be read, a line is neither, or ids do not count
            from 0; it names the line.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--hostfile={path}: cannot be read: {error}") from error
    hosts: list[str] = []
    for number, line in enumerate(lines, start=1):
        words = line.partition("#")[0].split()
        if words:
            hosts.append(_host(f"{path}:{number}", words, len(hosts)))
    if not hosts:
        raise UsageError(f"--hostfile={path}: names no host")
    return hosts


def _host(where: str, words: list[str], expected_id: int) -> str:
    """The host of one line: ``0 10.0.0.1 9999``, or ``10.0.0.1 slots=2``."""
    if len(words) == 1 or all(_is_slots(word) for word in words[1:]):
        return words[0]
    line = " ".join(words)
    if len(words) != 3 or not words[0].isdigit() or not _is_port(words[2]):
        raise UsageError(
            f"{where}: expected 'id ip port' as the original had it, received "
            f"'{line}'; for mpirun write 'host slots=1', and mpirun --hostfile"
        )
    if int(words[0]) != expected_id:
        raise UsageError(
            f"{where}: expected id {expected_id}, received '{line}'; ids count from 0 "
            "in the order of the lines (mpirun's own files need none)"
        )
    return words[1]


def _is_slots(word: str) -> bool:
    name, _, count = word.partition("=")
    return name in _SLOTS and count.isdigit()


def _is_port(word: str) -> bool:
    return word.isdigit() and 0 < int(word) < 1 << 16


def advice(hosts: list[str], ranks: int) -> str:
    """What to say of a sound file, given how many ranks there are."""
    if ranks == len(hosts):
        return "read and not needed: mpirun has placed the ranks"
    named = ",".join(hosts)
    return (
        f"names {len(hosts)} hosts, but mpirun places the ranks, and started {ranks}: "
        f"mpirun -n {len(hosts)} --host {named} poseidon train ..."
    )
