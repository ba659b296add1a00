"""What a solver tells the outside: frozen events and the listener Protocol.

The solver never prints.  It hands one of these records to every listener; the
report package turns them into Caffe's log lines, a progress line or a trace.
Each docstring gives the line that Caffe 1.0 prints for the event; numbers are
printed as ``%g``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from poseidon_caffe.net.net import Net

__all__ = [
    "DataRestarted",
    "DebugLine",
    "Event",
    "FinalLoss",
    "Finished",
    "GradientsClipped",
    "HistoryRestored",
    "IterationDisplayed",
    "IterationFinished",
    "LayerIgnored",
    "LearningRateDisplayed",
    "NetBuilt",
    "NetCreating",
    "Noted",
    "OutputValue",
    "Resumed",
    "ScaffoldingDone",
    "SnapshotFailed",
    "SnapshotWritten",
    "SolverInitializing",
    "SolverListener",
    "SolverStarted",
    "StepReached",
    "StoppedEarly",
    "TestInterrupted",
    "TestOutputs",
    "TestStarted",
    "Warned",
    "WeightsLoaded",
]


@dataclass(frozen=True)
class OutputValue:
    """One element of one output blob.

    ``<index>: <name> = <value>`` and, when ``loss_weight`` is not 0,
    `` (* <loss_weight> = <loss_weight*value> loss)``.

    Attributes:
        index: running number over all elements of all outputs, from 0.
        name: the blob's name.
        value: the element (for tests its mean over ``test_iter`` batches).
        loss_weight: the blob's loss weight, 0 when it is no loss.
    """

    index: int
    name: str
    value: float
    loss_weight: float = 0.0


@dataclass(frozen=True)
class Event:
    """Base of all events."""


@dataclass(frozen=True)
class SolverInitializing(Event):
    """``Initializing solver from parameters: `` and the prototxt on further lines."""

    text: str


@dataclass(frozen=True)
class NetCreating(Event):
    """A net is about to be built.

    Train: ``Creating training net <source>``, test: ``Creating test net (#<index>)
    <source>``; ``source`` is like ``from net file: a.prototxt`` (train) or
    ``specified by net file: a.prototxt`` (test).
    """

    is_train: bool
    index: int
    source: str


@dataclass(frozen=True)
class NetBuilt(Event):
    """The net announced by `NetCreating` stands; its construction can be told.

    Attributes:
        net: the net, to look at only.
    """

    net: Net


@dataclass(frozen=True)
class ScaffoldingDone(Event):
    """``Solver scaffolding done.``: all nets are built."""


@dataclass(frozen=True)
class WeightsLoaded(Event):
    """``Finetuning from <path>``."""

    path: str


@dataclass(frozen=True)
class LayerIgnored(Event):
    """``Ignoring source layer <name>``: the file has weights for it, the net none."""

    name: str


@dataclass(frozen=True)
class HistoryRestored(Event):
    """``<solver_type>Solver: restoring history``; the state file was read."""

    solver_type: str


@dataclass(frozen=True)
class Resumed(Event):
    """Training goes on from a snapshot (``Resuming from <path>`` in caffe.cpp).

    Attributes:
        exact: the sidecar was there, so data and random numbers go on too.
    """

    path: str
    iteration: int
    exact: bool


@dataclass(frozen=True)
class SolverStarted(Event):
    """``Solving <name>`` and ``Learning Rate Policy: <lr_policy>``.

    Attributes:
        name: the train net's name.
        solver_type: "SGD", "Adam", ...
        iteration: where it starts (0, or after a resume).
        max_iter: where it ends.
    """

    name: str
    solver_type: str
    lr_policy: str
    iteration: int
    max_iter: int


@dataclass(frozen=True)
class TestStarted(Event):
    """``Iteration <iteration>, Testing net (#<index>)``."""

    __test__ = False  # not a pytest class

    iteration: int
    index: int


@dataclass(frozen=True)
class TestOutputs(Event):
    """The scores of one test net.

    First ``Test loss: <loss>`` unless ``loss`` is None (``test_compute_loss``), then
    per output ``    Test net output #<index>: <name> = <value>`` with the loss suffix.
    """

    __test__ = False

    iteration: int
    index: int
    outputs: tuple[OutputValue, ...]
    loss: float | None


@dataclass(frozen=True)
class TestInterrupted(Event):
    """``Test interrupted.``: a stop was requested during a test."""

    __test__ = False


@dataclass(frozen=True)
class IterationFinished(Event):
    """Every iteration, after the update (no log line; for a progress display).

    Attributes:
        iteration: iterations done so far.
        loss: loss of this iteration, not smoothed.
    """

    iteration: int
    loss: float


@dataclass(frozen=True)
class IterationDisplayed(Event):
    """``Iteration <i> (<rate> iter/s, <elapsed>s/<display> iters), loss = <loss>``.

    Followed, per output, by ``    Train net output #<index>: <name> = <value>`` with
    the loss suffix.

    Attributes:
        iteration: 0-based iteration being run.
        loss: smoothed over ``average_loss`` iterations; on rank 0 of a cluster the
            mean of all workers', as the outputs are.
        iters_per_s: iterations since the last display per second.
        elapsed_s: seconds since the last display.
        display_iters: the ``display`` setting.
        outputs: the train net's outputs, every element.
    """

    iteration: int
    loss: float
    iters_per_s: float
    elapsed_s: float
    display_iters: int
    outputs: tuple[OutputValue, ...]


@dataclass(frozen=True)
class LearningRateDisplayed(Event):
    """``Iteration <iteration>, lr = <rate>`` (sgd_solver.cpp), after the outputs."""

    iteration: int
    rate: float


@dataclass(frozen=True)
class StepReached(Event):
    """``MultiStep Status: Iteration <iteration>, step = <step>``."""

    iteration: int
    step: int


@dataclass(frozen=True)
class GradientsClipped(Event):
    """The gradients' norm was over ``clip_gradients``.

    ``Gradient clipping: scaling down gradients (L2 norm <norm> > <limit>) by scale
    factor <scale>``.
    """

    iteration: int
    norm: float
    limit: float
    scale: float


@dataclass(frozen=True)
class DebugLine(Event):
    """One of ``debug_info``'s lines, ready to print (source net.cpp)."""

    text: str


@dataclass(frozen=True)
class SnapshotWritten(Event):
    """A snapshot is on disk, whole.

    Two adjacent lines: ``Snapshotting to binary proto file <model_path>`` and
    ``Snapshotting solver state to binary proto file <state_path>``; ``HDF5 file``
    in place of ``binary proto file`` when ``is_hdf5``.
    """

    iteration: int
    model_path: str
    state_path: str
    is_hdf5: bool


@dataclass(frozen=True)
class SnapshotFailed(Event):
    """A snapshot could not be written; training goes on (a warning)."""

    iteration: int
    message: str


@dataclass(frozen=True)
class FinalLoss(Event):
    """``Iteration <iteration>, loss = <loss>``: the last line, without timing.

    Attributes:
        iteration: iterations done.
        loss: smoothed; on rank 0 of a cluster the mean of all workers'.
    """

    iteration: int
    loss: float


@dataclass(frozen=True)
class StoppedEarly(Event):
    """``Optimization stopped early.``: a stop was requested."""

    iteration: int


@dataclass(frozen=True)
class Finished(Event):
    """``Optimization Done.``."""

    iteration: int


@dataclass(frozen=True)
class Noted(Event):
    """Something worth a line at level I, such as an upgrade of an old prototxt."""

    message: str


@dataclass(frozen=True)
class DataRestarted(Event):
    """A data layer has come to the end of its records and starts over."""

    message: str


@dataclass(frozen=True)
class Warned(Event):
    """Something the user should know; one line, level W."""

    message: str


class SolverListener(Protocol):
    """Whoever wants to know what a solver does."""

    def on_event(self, event: Event) -> None:
        """Take one event; called on the solver's thread, so be quick."""
