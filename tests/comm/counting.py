"""Parameters whose values are their own version: what a layer reads says how old it is.

`Counting` trains nothing: the update of iteration c sets every element of a row to
c + 1.  So a value that a layer reads is the number of clocks that it holds, and a row
of two versions, or one that changes within an iteration, shows at once.  The gradients
of iteration c are all c, so that one counted for another clock shows too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from poseidon_caffe.comm.cluster import Attachment
from poseidon_caffe.net.hooks import DONE
from poseidon_caffe.types import RowPiece
from tests.comm.support import Momentum, Tiny

__all__ = ["Counting", "Log", "Seen", "counting", "watch"]


class Counting(Momentum):
    """Sets values to the number of updates."""

    def apply(self, iteration: int, pieces: Sequence[RowPiece], scale: float) -> None:
        for piece in pieces:
            mean = piece.diff * scale
            assert (abs(mean - iteration) < 1e-9).all(), "gradients of another clock"
            piece.data[...] = iteration + 1


def counting(widths: tuple[int, ...] = (40, 30, 50, 7)) -> Tiny:
    """A tiny model that counts."""
    tiny = Tiny(widths)
    tiny.updater = tiny.local = Counting(tiny.blobs)
    for blob in tiny.blobs:
        blob.data[...] = 0
    return tiny


@dataclass(frozen=True)
class Seen:
    """What one worker read in one layer of one iteration: by row, at each look."""

    worker: int
    iteration: int
    layer: int
    versions: tuple[float, ...]


@dataclass
class Log:
    """What all workers saw; any thread.

    Attributes:
        seen: in the order in which it was written.
        begun: iteration that each worker is in.
    """

    size: int
    seen: list[Seen] = field(default_factory=list)
    begun: list[int] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def __post_init__(self) -> None:
        self.begun = [-1] * self.size

    def begin(self, worker: int, iteration: int) -> None:
        with self.changed:
            self.begun[worker] = iteration
            self.changed.notify_all()

    def wait_until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        with self.changed:
            return self.changed.wait_for(condition, timeout_s)

    def check(self, staleness: int) -> None:
        """The bound, one version a row and iteration, and never an older one."""
        last: dict[tuple[int, int, int], float] = {}
        for each in self.seen:
            for row, version in enumerate(each.versions):
                oldest = each.iteration - staleness
                assert oldest <= version <= each.iteration, (staleness, each)
                key = each.worker, each.layer, row
                assert version >= last.get(key, 0), each
                last[key] = version


def watch(
    tiny: Tiny,
    attached: Attachment,
    worker: int,
    iterations: int,
    log: Log,
    pause: Callable[[int, int, str], None] = lambda iteration, layer, moment: None,
) -> None:
    """Train, and look at each layer's rows at forward and at backward.

    ``pause(iteration, layer, moment)`` is called before each "forward" is allowed to
    wait, after it has waited ("entered") and before each "backward".
    """
    observer, sync = attached.observer, attached.sync
    assert observer is not None
    assert sync is not None
    rows = attached.plan.rows

    def look(layer: int) -> tuple[float, ...]:
        found = []
        for row in rows:
            for piece in row.pieces:
                if layer in tiny.slots[piece.slot].users:
                    values = tiny.blobs[piece.slot].data.reshape(-1)
                    part = values[piece.start : piece.stop]
                    assert part.min() == part.max(), "a torn row"
                    found.append(float(part[0]))
        return tuple(found)

    for iteration in range(iterations):
        at_forward = {}
        for layer in range(tiny.layers):
            pause(iteration, layer, "forward")
            observer.before_forward(layer)
            if layer == 0:
                log.begin(worker, iteration)
            pause(iteration, layer, "entered")
            at_forward[layer] = look(layer)
            log.seen.append(Seen(worker, iteration, layer, at_forward[layer]))
        for layer in reversed(range(tiny.layers)):
            pause(iteration, layer, "backward")
            assert look(layer) == at_forward[layer], "values changed in an iteration"
            for slot in tiny.slots:
                if slot.ready_after == layer:
                    tiny.blobs[slot.index].diff[...] = iteration
                    observer.grad_ready(slot, DONE)
        observer.backward_done()
        sync.agree(0)
    for slot in tiny.slots:
        sync.wait(slot.index)
        assert (tiny.blobs[slot.index].data == iterations).all()
