"""``caffe.SGDSolver`` and the others, as pycaffe's scripts know them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, ClassVar

from poseidon_caffe.caffe.glog import current_log
from poseidon_caffe.caffe.net import Net, StrPath
from poseidon_caffe.caffe.state import (
    COMPUTE_LOCK,
    current_ops,
    next_seed,
    solver_rank,
)
from poseidon_caffe.errors import SolverError
from poseidon_caffe.net.net import NetOptions
from poseidon_caffe.report.listener import GlogListener
from poseidon_caffe.schema.upgrade import read_solver
from poseidon_caffe.solver.solver import Solver as CoreSolver
from poseidon_caffe.solver.solver import SolverOptions

__all__ = [
    "AdaDeltaSolver",
    "AdaGradSolver",
    "AdamSolver",
    "NesterovSolver",
    "RMSPropSolver",
    "SGDSolver",
    "Solver",
    "get_solver",
]


class Solver:
    """Trains the net of a solver prototxt; base of the six solver types.

    Args:
        solver_file: the prototxt.  Paths inside it are relative to the working
            directory, as in Caffe.

    Raises:
        PoseidonError: a RuntimeError, as pycaffe's: a file is missing or wrong.
    """

    #: What to run whatever the prototxt's ``type`` says; None goes by it.
    _type: ClassVar[str | None] = None

    def __init__(self, solver_file: StrPath) -> None:
        path = os.fspath(solver_file)
        param = read_solver(path)
        if self._type is not None:
            param.type = self._type
        self._core = CoreSolver(
            param,
            ops=current_ops(),
            options=SolverOptions(net=NetOptions(), seed=next_seed()),
            path=path,
            # One of several solvers side by side tells what happens.
            events=[GlogListener(current_log())] if solver_rank() == 0 else [],
        )
        self._net = Net.of(self._core.net)
        self._test_nets = [Net.of(net) for net in self._core.test_nets]

    @property
    def net(self) -> Net:
        """The net being trained."""
        return self._net

    @property
    def test_nets(self) -> list[Net]:
        """The nets it is tested with; they use the parameters of `net`."""
        return self._test_nets

    @property
    def iter(self) -> int:
        """Iterations done so far."""
        return self._core.iteration

    @property
    def lr(self) -> float:
        """Learning rate of the present iteration, before any ``lr_mult``."""
        return self._core.learning_rate

    @property
    def param(self) -> Any:
        """The SolverParameter, with ``type`` as it runs."""
        return self._core.param

    def step(self, iterations: int) -> None:
        """Train for some iterations: tests, log lines and snapshots included.

        Raises:
            NumericsError: the loss is no longer finite.
        """
        with COMPUTE_LOCK:
            self._core.step(int(iterations))

    def solve(self, resume_file: StrPath | None = None) -> None:
        """Train to ``max_iter``, after restoring ``resume_file`` if given."""
        with COMPUTE_LOCK:
            self._core.solve(None if resume_file is None else os.fspath(resume_file))

    def snapshot(self) -> None:
        """Write weights and solver state under the ``snapshot_prefix``."""
        with COMPUTE_LOCK:
            self._core.snapshot()

    def restore(self, state_file: StrPath) -> None:
        """Go on from a .solverstate or .solverstate.h5."""
        with COMPUTE_LOCK:
            self._core.restore(os.fspath(state_file))

    def apply_update(self) -> None:
        """Update the parameters from the gradients that the net holds now.

        For scripts that run ``net.forward()`` and ``net.backward()`` themselves; the
        iteration count does not move.
        """
        with COMPUTE_LOCK:
            self._core.apply_update()

    def share_weights(self, net: Net) -> None:
        """Let ``net`` use the trained parameters wherever layer names agree."""
        net.share_with(self._net)

    def add_callback(
        self,
        on_start: Callable[[], object] | None,
        on_gradients_ready: Callable[[], object] | None,
    ) -> None:
        """Call functions without arguments in every iteration.

        Args:
            on_start: before the forward pass.
            on_gradients_ready: after the backward pass, before the update.
        """
        callbacks = self._core.callbacks
        if on_start is not None:
            callbacks.on_start.append(_without_result(on_start))
        if on_gradients_ready is not None:
            callbacks.on_gradients_ready.append(_without_result(on_gradients_ready))


class SGDSolver(Solver):
    """Stochastic gradient descent with momentum."""

    _type = "SGD"


class NesterovSolver(Solver):
    """Nesterov's accelerated gradient."""

    _type = "Nesterov"


class AdaGradSolver(Solver):
    """AdaGrad."""

    _type = "AdaGrad"


class RMSPropSolver(Solver):
    """RMSProp."""

    _type = "RMSProp"


class AdaDeltaSolver(Solver):
    """AdaDelta."""

    _type = "AdaDelta"


class AdamSolver(Solver):
    """Adam."""

    _type = "Adam"


def _without_result(callback: Callable[[], object]) -> Callable[[], None]:
    def call() -> None:
        callback()

    return call


_BY_TYPE: dict[str, type[Solver]] = {
    "SGD": SGDSolver,
    "Nesterov": NesterovSolver,
    "AdaGrad": AdaGradSolver,
    "RMSProp": RMSPropSolver,
    "AdaDelta": AdaDeltaSolver,
    "Adam": AdamSolver,
}


def get_solver(solver_file: StrPath) -> Solver:
    """The solver that the prototxt's ``type`` asks for.

    Raises:
        PoseidonError: the file is missing or wrong, or the type is unknown.
    """
    kind = read_solver(os.fspath(solver_file)).type
    if kind not in _BY_TYPE:
        msg = (
            f'{os.fspath(solver_file)}: unknown solver type "{kind}"; '
            f"there are {', '.join(_BY_TYPE)}"
        )
        raise SolverError(msg)
    return _BY_TYPE[kind](solver_file)
