"""Steps that all ranks take together: if one fails, all leave, and it is told once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeVar

from poseidon_caffe.errors import ClusterError, PoseidonError
from poseidon_caffe.report.console import explain

__all__ = ["Joint", "JointFailure", "Talk"]

T = TypeVar("T")
_TOPIC: Final = 2
_TOLD: Final = 3


class Talk(Protocol):
    """What of `comm.board.Board` is needed here."""

    def all_gather(self, topic: int, payload: bytes) -> list[bytes]:
        """Everybody's payload in rank order, everywhere."""

    def broadcast(self, topic: int, payload: bytes | None) -> bytes:
        """Rank 0's payload, everywhere."""


class JointFailure(Exception):
    """Some rank failed and all know it: rank 0 tells, then all leave in order.

    Attributes:
        error: what to tell; None on ranks other than 0.
    """

    def __init__(self, error: Exception | None) -> None:
        super().__init__("a step that all ranks take together failed on one")
        self.error = error


class Joint:
    """Runs steps on all ranks at once.

    Args:
        board: of all ranks, in rank order.
        rank: of this process.
        hosts: by rank.
    """

    def __init__(self, board: Talk, rank: int, hosts: Sequence[str]) -> None:
        self._board, self._rank, self._hosts = board, rank, hosts

    def together(self, step: Callable[[], T]) -> T:
        """The result of ``step``, which every rank runs now.

        Raises:
            JointFailure: on all ranks when any failed; on rank 0 it has what its own
                step raised, else a ClusterError with what the others told.
        """
        result, error = _attempt(step)
        told = b""
        if error is not None:
            explained = explain(error)
            told = "\n".join((explained.message, *explained.hints)).encode()
        found = [each.decode() for each in self._board.all_gather(_TOPIC, told)]
        if not any(found):
            assert result is not None
            return result[0]
        if self._rank == 0 and error is None:
            error = ClusterError(self._words(found))
        raise JointFailure(None if self._rank else error) from error

    def alike(self, step: Callable[[], None]) -> None:
        """Run a ``step`` that raises on all ranks or on none.

        Raises:
            JointFailure: it raised.
        """
        try:
            step()
        except PoseidonError as error:
            raise JointFailure(None if self._rank else error) from error

    def _words(self, found: Sequence[str]) -> str:
        """What ranks other than 0 met, each text once."""
        by_text: dict[str, list[int]] = {}
        for rank, text in enumerate(found):
            if text:
                by_text.setdefault(text, []).append(rank)
        lines = []
        for text, ranks in list(by_text.items())[:_TOLD]:
            who = f"rank {ranks[0]} (host {self._hosts[ranks[0]]})"
            if len(ranks) > 1:
                who = f"ranks {', '.join(map(str, ranks))}"
            lines.append(f"{who}: {text}")
        return "\n".join(lines)


def _attempt(step: Callable[[], T]) -> tuple[tuple[T] | None, Exception | None]:
    """(Result in a tuple, None) or (None, what was raised)."""
    try:
        return (step(),), None
    except Exception as error:  # noqa: BLE001 - whatever it is, the others must hear
        return None, error
