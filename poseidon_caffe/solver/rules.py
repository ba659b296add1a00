"""The six update rules of Caffe 1.0, each elementwise and in place.

A rule sees slices of any size, so a backend may run it over cache-sized pieces
and a cluster over rows.  ``g`` below is the ready gradient (scaled, regularised),
``r`` the local rate, ``w`` the values.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np

from poseidon_caffe.errors import SolverError
from poseidon_caffe.types import Array, RuleKernel, UpdateRule, UpdateStep

__all__ = [
    "SOLVER_TYPES",
    "AdaDelta",
    "AdaGrad",
    "Adam",
    "Nesterov",
    "RmsProp",
    "Sgd",
    "make_rule",
]


class _Scratch(threading.local):
    """One work array per thread, reused from call to call."""

    def __init__(self) -> None:
        self._array: Array | None = None

    def like(self, array: Array) -> Array:
        """An uninitialised array like ``array``, which must be one-dimensional."""
        held = self._array
        if (
            held is None
            or type(held) is not type(array)
            or held.dtype != array.dtype
            or held.size < array.size
        ):
            self._array = held = np.empty_like(array.reshape(-1))
        return held[: array.size].reshape(array.shape)


class Sgd:
    """h = momentum*h + r*g;  w -= h."""

    history_count: int = 1

    def __init__(self, momentum: float = 0.0) -> None:
        self.momentum = momentum
        self.heavy_ball: float | None = momentum

    def apply(
        self,
        data: Array,
        diff: Array,
        history: Sequence[Array],
        *,
        local_rate: float,
        step: UpdateStep,
    ) -> None:
        """Update in place; see `UpdateRule.apply`."""
        (h,) = history
        h *= self.momentum
        diff *= local_rate
        h += diff
        data -= h

    def kernel(self, step: UpdateStep) -> RuleKernel:
        """This rule's name and numbers; see `UpdateRule.kernel`."""
        return RuleKernel("sgd", (self.momentum,))


class Nesterov:
    """h' = momentum*h + r*g;  w -= (1+momentum)*h' - momentum*h."""

    history_count: int = 1
    heavy_ball: float | None = None

    def __init__(self, momentum: float = 0.0) -> None:
        self.momentum = momentum

    def apply(
        self,
        data: Array,
        diff: Array,
        history: Sequence[Array],
        *,
        local_rate: float,
        step: UpdateStep,
    ) -> None:
        """Update in place; see `UpdateRule.apply`."""
        (h,) = history
        h *= self.momentum
        diff *= local_rate
        h += diff
        # (1+m)h' - mh = r*g + m*h', which needs no copy of the old history.
        data -= diff
        np.multiply(h, self.momentum, out=diff)
        data -= diff

    def kernel(self, step: UpdateStep) -> RuleKernel:
        """This rule's name and numbers; see `UpdateRule.kernel`."""
        return RuleKernel("nesterov", (self.momentum,))


class AdaGrad:
    """h += g^2;  w -= r * g / (sqrt(h) + delta)."""

    history_count: int = 1
    heavy_ball: float | None = None

    def __init__(self, delta: float = 1e-8) -> None:
        self.delta = delta
        self._scratch = _Scratch()

    def apply(
        self,
        data: Array,
        diff: Array,
        history: Sequence[Array],
        *,
        local_rate: float,
        step: UpdateStep,
    ) -> None:
        """Update in place; see `UpdateRule.apply`."""
        (h,) = history
        work = np.multiply(diff, diff, out=self._scratch.like(diff))
        h += work
        _descend(data, diff, h, work, local_rate, self.delta)

    def kernel(self, step: UpdateStep) -> RuleKernel:
        """This rule's name and numbers; see `UpdateRule.kernel`."""
        return RuleKernel("adagrad", (self.delta,))


class RmsProp:
    """h = decay*h + (1-decay)*g^2;  w -= r * g / (sqrt(h) + delta)."""

    history_count: int = 1
    heavy_ball: float | None = None

    def __init__(self, rms_decay: float = 0.99, delta: float = 1e-8) -> None:
        self.rms_decay = rms_decay
        self.delta = delta
        self._scratch = _Scratch()

    def apply(
        self,
        data: Array,
        diff: Array,
        history: Sequence[Array],
        *,
        local_rate: float,
        step: UpdateStep,
    ) -> None:
        """Update in place; see `UpdateRule.apply`."""
        (h,) = history
        work = self._scratch.like(diff)
        _average_square(h, diff, self.rms_decay, work)
        _descend(data, diff, h, work, local_rate, self.delta)

    def kernel(self, step: UpdateStep) -> RuleKernel:
        """This rule's name and numbers; see `UpdateRule.kernel`."""
        return RuleKernel("rmsprop", (self.rms_decay, self.delta))


class AdaDelta:
    """u = g * sqrt((b + delta) / (a + delta)), a and b averages of g^2 and u^2.

    ``a`` is updated before and ``b`` after ``u``;  w -= r * u.  The histories are a
    and b; ``momentum`` is the averages' decay.
    """

    history_count: int = 2
    heavy_ball: float | None = None

    def __init__(self, momentum: float = 0.0, delta: float = 1e-8) -> None:
        self.momentum = momentum
        self.delta = delta
        self._scratch = _Scratch()
        self._ratio = _Scratch()

    def apply(
        self,
        data: Array,
        diff: Array,
        history: Sequence[Array],
        *,
        local_rate: float,
        step: UpdateStep,
    ) -> None:
        """Update in place; see `UpdateRule.apply`."""
        squares, updates = history
        work, ratio = self._scratch.like(diff), self._ratio.like(diff)
        _average_square(squares, diff, self.momentum, work)
        np.add(squares, self.delta, out=work)
        np.add(updates, self.delta, out=ratio)
        ratio /= work
        np.sqrt(ratio, out=ratio)
        diff *= ratio
        _average_square(updates, diff, self.momentum, work)
        diff *= local_rate
        data -= diff

    def kernel(self, step: UpdateStep) -> RuleKernel:
        """This rule's name and numbers; see `UpdateRule.kernel`."""
        return RuleKernel("adadelta", (self.momentum, self.delta))


class Adam:
    """Averages m of g and v of g^2;  w -= r * c * m / (sqrt(v) + delta).

    c = sqrt(1 - momentum2^t) / (1 - momentum^t) with t counted from 1.  The
    histories are m and v.
    """

    history_count: int = 2
    heavy_ball: float | None = None

    def __init__(
        self, momentum: float = 0.0, momentum2: float = 0.999, delta: float = 1e-8
    ) -> None:
        self.momentum = momentum
        self.momentum2 = momentum2
        self.delta = delta
        self._scratch = _Scratch()

    def apply(
        self,
        data: Array,
        diff: Array,
        history: Sequence[Array],
        *,
        local_rate: float,
        step: UpdateStep,
    ) -> None:
        """Update in place; see `UpdateRule.apply`."""
        m, v = history
        correction = self._correction(step)
        work = self._scratch.like(diff)
        _average_square(v, diff, self.momentum2, work)
        m *= self.momentum
        diff *= 1.0 - self.momentum
        m += diff
        np.copyto(diff, m)
        _descend(data, diff, v, work, local_rate * correction, self.delta)

    def kernel(self, step: UpdateStep) -> RuleKernel:
        """This rule's name and numbers; see `UpdateRule.kernel`."""
        correction = self._correction(step)
        return RuleKernel(
            "adam", (self.momentum, self.momentum2, self.delta, correction)
        )

    def _correction(self, step: UpdateStep) -> float:
        t = step.iteration + 1
        return math.sqrt(1.0 - self.momentum2**t) / (1.0 - self.momentum**t)


def _average_square(average: Array, x: Array, decay: float, work: Array) -> None:
    """average = decay*average + (1-decay)*x^2; ``work`` is overwritten."""
    np.multiply(x, x, out=work)
    work *= 1.0 - decay
    average *= decay
    average += work


def _descend(
    data: Array, diff: Array, squares: Array, work: Array, rate: float, delta: float
) -> None:
    """data -= rate * diff / (sqrt(squares) + delta); ``work`` is overwritten."""
    np.sqrt(squares, out=work)
    work += delta
    diff /= work
    diff *= rate
    data -= diff


def _no_momentum(param: Any) -> None:
    if param.momentum != 0:
        msg = (
            f"momentum: {param.momentum:g} cannot be used with {param.type}; "
            "remove the field or set it to 0"
        )
        raise SolverError(msg)


def _make_adagrad(param: Any) -> UpdateRule:
    _no_momentum(param)
    return AdaGrad(param.delta)


def _make_rmsprop(param: Any) -> UpdateRule:
    _no_momentum(param)
    if not 0 <= param.rms_decay < 1:
        msg = f"rms_decay: {param.rms_decay:g} should lie in [0, 1)"
        raise SolverError(msg)
    return RmsProp(param.rms_decay, param.delta)


def _make_adam(param: Any) -> UpdateRule:
    for field in ("momentum", "momentum2"):
        if not 0 <= getattr(param, field) < 1:
            msg = f"{field}: {getattr(param, field):g} should lie in [0, 1) for Adam"
            raise SolverError(msg)
    return Adam(param.momentum, param.momentum2, param.delta)


_MAKERS: dict[str, Callable[[Any], UpdateRule]] = {
    "SGD": lambda param: Sgd(param.momentum),
    "Nesterov": lambda param: Nesterov(param.momentum),
    "AdaGrad": _make_adagrad,
    "RMSProp": _make_rmsprop,
    "AdaDelta": lambda param: AdaDelta(param.momentum, param.delta),
    "Adam": _make_adam,
}

#: Names that the ``type`` field knows.
SOLVER_TYPES = tuple(_MAKERS)


def make_rule(param: Any) -> UpdateRule:
    """The update rule of a SolverParameter.

    Raises:
        SolverError: unknown ``type``, or settings that the type refuses.
    """
    maker = _MAKERS.get(param.type)
    if maker is None:
        lower = {name.lower(): name for name in _MAKERS}
        near = get_close_matches(param.type.lower(), lower, 1)
        hint = f'; did you mean "{lower[near[0]]}"?' if near else ""
        known = ", ".join(_MAKERS)
        msg = f'type: "{param.type}" is no solver type (known: {known}){hint}'
        raise SolverError(msg)
    return maker(param)
