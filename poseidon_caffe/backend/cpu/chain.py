"""Chains of elementwise steps in one pass through memory: oneDNN's binary primitive.

The first step combines two arrays; the others are its post-operations.
"""

from __future__ import annotations

import enum
import math
import threading
from typing import NamedTuple

from poseidon_caffe.backend.cpu.dnnl import (
    Alg,
    Arg,
    Desc,
    Dnnl,
    PostOp,
    Primitive,
)
from poseidon_caffe.types import Shape

__all__ = ["DnnlChain", "Step", "each", "each_row", "of", "one"]


class _Spread(enum.Enum):
    """What a step's operand has a number for."""

    NOTHING = enum.auto()  # the step has no operand
    EACH = enum.auto()
    ROW = enum.auto()
    ALL = enum.auto()


class Step(NamedTuple):
    """One step of a chain; made by the functions below.

    Attributes:
        alg: a function of the value, or how to combine it with an operand.
        spread: what the operand has a number for.
        dtype: of the operand.
        alpha: a function's first parameter.
        beta: its second.
    """

    alg: Alg
    spread: _Spread
    dtype: str = "float32"
    alpha: float = 0.0
    beta: float = 0.0


def each(alg: Alg, dtype: str = "float32") -> Step:
    """Combine the value with an array's element at the same place."""
    return Step(alg, _Spread.EACH, dtype)


def each_row(alg: Alg) -> Step:
    """Combine the value with its row's number, of an array of shape (rows,)."""
    return Step(alg, _Spread.ROW)


def one(alg: Alg) -> Step:
    """Combine the value with a number given at run time, an array of shape (1,)."""
    return Step(alg, _Spread.ALL)


def of(alg: Alg, alpha: float = 0.0, beta: float = 0.0) -> Step:
    """A function of the value."""
    return Step(alg, _Spread.NOTHING, alpha=float(alpha), beta=float(beta))


class DnnlChain:
    """Makes the primitives, each once.  Arrays given to them must lie alike."""

    dnnl: Dnnl

    def __init__(self) -> None:
        super().__init__()
        self._chains: dict[tuple[int, int, int, tuple[Step, ...]], Primitive] = {}

    def _chain(self, count: int, *steps: Step, rows: int = 1) -> Primitive:
        """``run(x, operand of the first step, ..., operand of the last, y)``.

        The first step must have an operand; functions have none.  y may be any of
        the others.  The ``count`` elements lie in ``rows`` of one length.  Every
        thread has primitives of its own.
        """
        key = (threading.get_ident(), count, rows, steps)
        if key not in self._chains:
            self._chains[key] = self._make_chain(count, rows, steps)
        return self._chains[key]

    def _make_chain(self, count: int, rows: int, steps: tuple[Step, ...]) -> Primitive:
        # The library is a hundred times slower with rows along the first axis.
        shape = (count,) if rows == 1 else (1, rows, count // rows)
        sizes = {
            _Spread.EACH: shape,
            _Spread.ALL: (1,) * len(shape),
            _Spread.ROW: (1, rows, 1)[: len(shape)],
        }
        whole = self._plain(shape)
        operands: dict[int, Desc] = {Arg.SRC: whole}
        follow = []
        for i, step in enumerate(steps):
            desc = None
            if step.spread in sizes:
                desc = self._plain(sizes[step.spread], step.dtype)
                operands[Arg.POST_OP * i | Arg.SRC_1] = desc
            follow.append(PostOp(step.alg, desc, step.alpha, step.beta))
        operands[Arg.DST] = whole
        made = self.dnnl.describe(
            "binary", steps[0].alg, whole, follow[0].operand, whole,
            attr=self.dnnl.attr(then=follow[1:]),
        )  # fmt: skip
        return Primitive(made, operands)

    def _plain(self, shape: Shape, dtype: str = "float32") -> Desc:
        """Of an array in C order."""
        steps = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
        return self.dnnl.desc(shape, steps, dtype)
