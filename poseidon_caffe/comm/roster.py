"""Who takes part, and whether all mean the same: compared before training starts.

Each rank describes itself in a `Fingerprint`.  Texts are compared by hash; only those
that differ travel, so that the first differing line can be shown.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Final, Protocol

from poseidon_caffe.errors import ClusterError

__all__ = [
    "Fingerprint",
    "Meeting",
    "compare",
    "exchange",
    "first_difference",
]

_TOPIC_PRINTS: Final = 0
_TOPIC_TEXTS: Final = 1
_TOLD_RANKS: Final = 4
_NAMED_LINE: Final = re.compile(r"^\s*(\w+):\s*(.*?)\s*$")
_LAYER_NAME: Final = re.compile(r'^  name: "(.*)"$')


class Meeting(Protocol):
    """What of a `Board` is needed here."""

    def all_gather(self, topic: int, payload: bytes) -> list[bytes]:
        """Everybody's payload in rank order, everywhere."""


@dataclass(frozen=True)
class Fingerprint:
    """What a rank is about to do.

    Attributes:
        version: of Poseidon.
        settings: what must agree, by the name to show: flags, dtype, backend.
        hashes: of the prototxts as read, by the name to show.
        counts: records of each data layer, by ``layer of net``.
        own_sources: those data layers that read a file of each rank's own, where
            counts may differ.
        is_server: serves only, so it reads no records.
    """

    version: str
    settings: Mapping[str, str]
    hashes: Mapping[str, str]
    counts: Mapping[str, int] = field(default_factory=dict)
    own_sources: Sequence[str] = ()
    is_server: bool = False

    @classmethod
    def of(
        cls,
        version: str,
        settings: Mapping[str, str],
        texts: Mapping[str, str],
        *,
        counts: Mapping[str, int] | None = None,
        own_sources: Sequence[str] = (),
        is_server: bool = False,
    ) -> Fingerprint:
        """A fingerprint whose hashes are those of ``texts``."""
        hashes = {
            name: hashlib.sha256(text.encode()).hexdigest()
            for name, text in texts.items()
        }
        counted = dict(counts or {})
        return cls(
            version, dict(settings), hashes, counted, list(own_sources), is_server
        )

    def to_json(self) -> bytes:
        """As it travels."""
        return json.dumps(asdict(self), sort_keys=True).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Fingerprint:
        """What `to_json` wrote."""
        return cls(**json.loads(data))


def exchange(
    meeting: Meeting,
    own: Fingerprint,
    texts: Mapping[str, str],
    hosts: Sequence[str],
) -> None:
    """Compare this rank with all others; every rank calls it and ends alike.

    Args:
        meeting: of all ranks.
        own: of this rank.
        texts: whose hashes ``own`` has.
        hosts: by rank.

    Raises:
        ClusterError: ranks disagree; names rank, host, field and both values.
    """
    found = meeting.all_gather(_TOPIC_PRINTS, own.to_json())
    prints = [Fingerprint.from_json(data) for data in found]
    problem = compare(prints, hosts)
    if problem:
        raise ClusterError(problem)
    name = _differing_text(prints)
    if name is not None:
        sent = texts.get(name, "").encode()
        all_texts = meeting.all_gather(_TOPIC_TEXTS, sent)
        raise ClusterError(
            _text_problem(name, [data.decode() for data in all_texts], hosts)
        )


def compare(prints: Sequence[Fingerprint], hosts: Sequence[str]) -> str:
    """How ranks differ but for their texts, in words; "" when they agree.

    Args:
        prints: by rank.
        hosts: by rank.
    """
    versions = [each.version for each in prints]
    problem = _disagreement("Poseidon's version", versions, hosts)
    if problem:
        return f"{problem}; install the same version everywhere"
    names = dict.fromkeys(name for each in prints for name in each.settings)
    for name in names:
        values = [each.settings.get(name, "unknown") for each in prints]
        problem = _disagreement(name, values, hosts)
        if problem:
            return f"{problem}; give every rank the same"
    return _count_problem(prints, hosts)


def _disagreement(name: str, values: Sequence[str], hosts: Sequence[str]) -> str:
    """``rank 2 (host b): --staleness is 3, 0 on rank 0``, or ""."""
    others = [rank for rank, value in enumerate(values) if value != values[0]]
    if not others:
        return ""
    first = others[0]
    alike = [rank for rank in others[1:] if values[rank] == values[first]]
    who = _who([first, *alike], hosts)
    return f"{who}: {name} is {_shown(values[first])}, {_shown(values[0])} on rank 0"


def _shown(value: str) -> str:
    return value or "not given"


def _who(ranks: Sequence[int], hosts: Sequence[str]) -> str:
    """``rank 2 (host b)``, or ``ranks 1, 2 (hosts a, b)``."""
    shown = ranks[:_TOLD_RANKS]
    named = ", ".join(map(str, shown)) + (", ..." if len(ranks) > len(shown) else "")
    on = dict.fromkeys(hosts[rank] for rank in shown)
    plural, several = "s" if len(ranks) > 1 else "", "s" if len(on) > 1 else ""
    return f"rank{plural} {named} (host{several} {', '.join(on)})"


def _count_problem(prints: Sequence[Fingerprint], hosts: Sequence[str]) -> str:
    """Unequal record counts of a source that all workers share, or ""."""
    workers = [rank for rank, each in enumerate(prints) if not each.is_server]
    own = {name for each in prints for name in each.own_sources}
    first = prints[workers[0]].counts
    for rank in workers[1:]:
        for name, count in prints[rank].counts.items():
            if name not in own and first.get(name, count) != count:
                return (
                    f"{_who([rank], hosts)}: layer {name} has {count} records, "
                    f"{first[name]} on rank 0; workers share the records of one data "
                    "set, so copies must be equal (each with a part of its own: "
                    "shared_file_system: false)"
                )
    return ""


def _differing_text(prints: Sequence[Fingerprint]) -> str | None:
    """The first prototxt that is not the same everywhere; the same on every rank."""
    for name in dict.fromkeys(name for each in prints for name in each.hashes):
        if len({each.hashes.get(name) for each in prints}) > 1:
            return name
    return None


def _text_problem(name: str, texts: Sequence[str], hosts: Sequence[str]) -> str:
    others = [rank for rank, text in enumerate(texts) if text != texts[0]]
    first = others[0]
    alike = [rank for rank in others[1:] if texts[rank] == texts[first]]
    said = first_difference(name, texts[first], texts[0])
    return (
        f"{_who([first, *alike], hosts)}: {said}; give every rank the same files (a "
        "shared folder, or copies made anew)"
    )


def first_difference(name: str, theirs: str, ours: str) -> str:
    """The first line where two prototxts part, in words.

    Args:
        name: what they are, e.g. ``solver.prototxt``.
        theirs: text of the rank that is told of.
        ours: text of rank 0.

    Returns:
        ``base_lr is 0.02 in its solver.prototxt, 0.01 on rank 0``, say.
    """
    left, right = theirs.splitlines(), ours.splitlines()
    at = next(
        (
            i
            for i, pair in enumerate(zip(left, right, strict=False))
            if len({*pair}) > 1
        ),
        min(len(left), len(right)),
    )
    mine = left[at] if at < len(left) else ""
    other = right[at] if at < len(right) else ""
    where = _layer_of(left, at)
    named, wanted = _NAMED_LINE.match(mine), _NAMED_LINE.match(other)
    if named and wanted and named[1] == wanted[1]:
        return f"{named[1]} is {named[2]} in its {name}{where}, {wanted[2]} on rank 0"
    return (
        f"line {at + 1} of its {name}{where} as read is {_quoted(mine)}, "
        f"{_quoted(other)} on rank 0"
    )


def _layer_of(lines: Sequence[str], at: int) -> str:
    """`` in layer conv1`` for a line inside a layer's block."""
    for line in reversed(lines[: at + 1]):
        found = _LAYER_NAME.match(line)
        if found:
            return f" in layer {found[1]}"
        if line and not line.startswith(" ") and line != "}":
            break
    return ""


def _quoted(line: str) -> str:
    return f"'{line.strip()}'" if line.strip() else "missing"
