"""No rank leaves the others hanging: whoever breaks ends the job, and says why."""

from __future__ import annotations

import contextlib
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TypeAlias

from poseidon_caffe.comm.transport import Transport
from poseidon_caffe.errors import ClusterError

__all__ = ["Tell", "abort_unless_done", "install_hooks"]

# Given one line, which names the rank and the error, and the traceback (many lines).
Tell: TypeAlias = Callable[[str, str], None]

_FAILED, _INTERRUPTED = 1, 130


def install_hooks(transport: Transport, tell: Tell) -> Callable[[], None]:
    """Let an uncaught exception in any thread end the whole job.

    Without this the other ranks would wait for ever for a rank that has raised.

    Args:
        transport: of this rank.
        tell: writes down what happened, before the job ends.

    Returns:
        A function that puts the earlier hooks back.
    """
    kept = (sys.excepthook, threading.excepthook)

    def from_main(
        _kind: type[BaseException], error: BaseException, where: TracebackType | None
    ) -> None:
        _end(transport, tell, error.with_traceback(where), "")

    def from_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is None or isinstance(args.exc_value, SystemExit):
            return  # that ends a thread silently, as ever
        named = f" in thread {args.thread.name}" if args.thread else ""
        # Aborting a real job does not return; a fake's raises, which none could catch.
        with contextlib.suppress(ClusterError):
            _end(transport, tell, args.exc_value, named)

    def restore() -> None:
        sys.excepthook, threading.excepthook = kept

    sys.excepthook, threading.excepthook = from_main, from_thread
    return restore


@contextlib.contextmanager
def abort_unless_done(transport: Transport, tell: Tell) -> Iterator[None]:
    """End the whole job when the block is left early, by sys.exit too.

    Args:
        transport: of this rank.
        tell: writes down what happened, before the job ends.
    """
    try:
        yield
    except BaseException as error:
        _end(transport, tell, error, "")
        raise


def _end(transport: Transport, tell: Tell, error: BaseException, where: str) -> None:
    host, pid = transport.hosts[transport.rank], transport.pids[transport.rank]
    line = f"rank {transport.rank} on {host} (pid {pid}){where}: {_words(error)}"
    try:
        tell(line, "".join(traceback.format_exception(error)).rstrip())
    finally:
        is_asked = isinstance(error, KeyboardInterrupt)
        transport.abort(_INTERRUPTED if is_asked else _FAILED)


def _words(error: BaseException) -> str:
    """One line for any exception."""
    if isinstance(error, SystemExit):
        return f"left by sys.exit({error.code!r}) before training was done"
    said = " ".join(str(error).split())
    name = type(error).__name__
    return f"{name}: {said}" if said else name
