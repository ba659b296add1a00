"""What each worker keeps for an exact resume, and how it is given back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from poseidon_caffe.types import JsonObject

if TYPE_CHECKING:
    from poseidon_caffe.net.net import Net
    from poseidon_caffe.solver.solver import Solver

__all__ = ["WorkerState", "apply_shared", "apply_worker", "capture", "mean_losses"]


@dataclass(frozen=True)
class WorkerState:
    """One worker's own part of a snapshot.

    Attributes:
        train: `Net.state` of the train net; tests: of each test net.
        losses: the window of the smoothed loss, oldest first.
        loss_scale: `LossScale.state`, where the loss is scaled.
    """

    train: JsonObject = field(default_factory=dict)
    tests: list[JsonObject] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    loss_scale: JsonObject | None = None

    def to_json(self) -> JsonObject:
        """The fields by name; no loss scale where there is none, as before it came."""
        fields = asdict(self)
        if self.loss_scale is None:
            del fields["loss_scale"]
        return fields


def capture(solver: Solver) -> WorkerState:
    """The present state of this worker."""
    scale = solver.net.loss_scale
    return WorkerState(
        train=solver.net.state(),
        tests=[net.state() for net in solver.test_nets],
        losses=solver.window.values(),
        loss_scale=None if scale is None else scale.state(),
    )


def apply_worker(solver: Solver, state: WorkerState) -> None:
    """Go on exactly where ``state`` was captured.

    Raises:
        KeyError, TypeError, ValueError: it does not fit the nets.
        PoseidonError: likewise, as a layer says it.
    """
    for net, layers in _nets(solver, state):
        net.restore_state(layers)
    solver.window.replace(state.losses)
    _restore_scale(solver, state)


def apply_shared(
    solver: Solver, state: WorkerState, losses: Sequence[float]
) -> list[str]:
    """Take from another worker's state what is the same on all of them.

    Args:
        solver: whose nets and loss window are set.
        state: of any worker.
        losses: for the window.

    Returns:
        Names of layers whose states are each worker's own, and so start anew.

    Raises:
        KeyError, TypeError, ValueError: it does not fit the nets.
        PoseidonError: likewise, as a layer says it.
    """
    left: dict[str, None] = {}
    for net, layers in _nets(solver, state):
        own = [layer.name for layer in net.layers if not layer.state_is_shared]
        net.restore_state({n: s for n, s in layers.items() if n not in own})
        left |= dict.fromkeys(name for name in layers if name in own)
    solver.window.replace(losses)
    _restore_scale(solver, state)
    return list(left)


def mean_losses(workers: Sequence[WorkerState]) -> list[float]:
    """The loss window of all workers together."""
    windows = zip(*(worker.losses for worker in workers), strict=False)
    return [sum(losses) / len(losses) for losses in windows]


def _restore_scale(solver: Solver, state: WorkerState) -> None:
    """Workers have one scale, so that anyone's will do."""
    scale = solver.net.loss_scale
    if scale is not None and state.loss_scale is not None:
        scale.restore_state(state.loss_scale)


def _nets(solver: Solver, state: WorkerState) -> Iterator[tuple[Net, JsonObject]]:
    yield solver.net, state.train
    yield from zip(solver.test_nets, state.tests, strict=False)
