"""Learning-rate policies: the rate of an iteration as a pure function.

===========  =====================================================
fixed        base_lr
step         base_lr * gamma ^ floor(iteration / stepsize)
exp          base_lr * gamma ^ iteration
inv          base_lr * (1 + gamma * iteration) ^ (-power)
multistep    base_lr * gamma ^ (number of stepvalues reached)
poly         base_lr * (1 - iteration / max_iter) ^ power
sigmoid      base_lr / (1 + exp(-gamma * (iteration - stepsize)))
===========  =====================================================

Rounded to single precision where Caffe rounds: its log shows the sixth digit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np

from poseidon_caffe.errors import SolverError

__all__ = ["POLICIES", "ScheduleState", "check_schedule", "learning_rate"]

_F32 = np.float32
_ONE = np.float32(1)


@dataclass
class ScheduleState:
    """What the policies remember; it is the solverstate's ``current_step``.

    Attributes:
        current_step: how often the rate has been lowered (step and multistep).
    """

    current_step: int = 0


def _fixed(param: Any, iteration: int, state: ScheduleState) -> float:  # noqa: ARG001
    return 1.0


def _step(param: Any, iteration: int, state: ScheduleState) -> float:
    state.current_step = iteration // param.stepsize
    return float(param.gamma**state.current_step)


def _exp(param: Any, iteration: int, state: ScheduleState) -> float:  # noqa: ARG001
    return float(param.gamma**iteration)


def _inv(param: Any, iteration: int, state: ScheduleState) -> float:  # noqa: ARG001
    base = _ONE + _F32(param.gamma) * _F32(iteration)
    return math.pow(base, -param.power)


def _multistep(param: Any, iteration: int, state: ScheduleState) -> float:
    values = param.stepvalue
    # At most one step per iteration, as Caffe does it.
    if state.current_step < len(values) and iteration >= values[state.current_step]:
        state.current_step += 1
    return float(param.gamma**state.current_step)


def _poly(param: Any, iteration: int, state: ScheduleState) -> float:  # noqa: ARG001
    left = float(_ONE - _F32(iteration) / _F32(param.max_iter))
    return math.pow(max(left, 0.0), param.power)


def _sigmoid(param: Any, iteration: int, state: ScheduleState) -> float:  # noqa: ARG001
    x = param.gamma * (iteration - param.stepsize)
    # Both forms are 1 / (1 + exp(-x)); each is safe on its side of 0.
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


@dataclass(frozen=True)
class _Policy:
    """A policy's factor on base_lr and the fields it cannot do without."""

    factor: Callable[[Any, int, ScheduleState], float]
    needs: tuple[str, ...] = ()


_POLICIES: dict[str, _Policy] = {
    "fixed": _Policy(_fixed),
    "step": _Policy(_step, ("gamma", "stepsize")),
    "exp": _Policy(_exp, ("gamma",)),
    "inv": _Policy(_inv, ("gamma", "power")),
    "multistep": _Policy(_multistep, ("gamma",)),
    "poly": _Policy(_poly, ("power", "max_iter")),
    "sigmoid": _Policy(_sigmoid, ("gamma", "stepsize")),
}

#: Names that the ``lr_policy`` field knows.
POLICIES = tuple(_POLICIES)


def check_schedule(param: Any) -> None:
    """Raise SolverError unless the policy is known and has its fields."""
    policy = _POLICIES.get(param.lr_policy)
    known = ", ".join(_POLICIES)
    if policy is None:
        near = get_close_matches(param.lr_policy, _POLICIES, 1)
        hint = f'; did you mean "{near[0]}"?' if near else ""
        what = (
            f'lr_policy: "{param.lr_policy}" is no learning rate policy'
            if param.HasField("lr_policy")
            else "lr_policy is missing"
        )
        msg = f"{what} (known: {known}){hint}"
        raise SolverError(msg)
    missing = [name for name in ("base_lr", *policy.needs) if not param.HasField(name)]
    if missing:
        msg = f'lr_policy: "{param.lr_policy}" needs {" and ".join(missing)}'
        raise SolverError(msg)
    for name in ("stepsize", "max_iter"):
        if name in policy.needs and getattr(param, name) <= 0:
            msg = (
                f'lr_policy: "{param.lr_policy}" needs {name} above 0, '
                f"not {getattr(param, name)}"
            )
            raise SolverError(msg)


def learning_rate(param: Any, iteration: int, state: ScheduleState) -> float:
    """The global rate of ``iteration`` (0-based), before any ``lr_mult``.

    Args:
        param: a SolverParameter that `check_schedule` accepts.
        iteration: iterations done so far.
        state: updated in place (``current_step``).

    Raises:
        SolverError: the settings lead to a rate that is no finite number.
    """
    try:
        factor = _POLICIES[param.lr_policy].factor(param, iteration, state)
        with np.errstate(over="ignore"):
            rate = float(_F32(param.base_lr) * _F32(factor))
    except (OverflowError, ValueError, ZeroDivisionError):
        rate = math.nan
    if not math.isfinite(rate):
        msg = (
            f'lr_policy: "{param.lr_policy}" gives no finite rate at iteration '
            f"{iteration}; check gamma and power"
        )
        raise SolverError(msg)
    return rate
