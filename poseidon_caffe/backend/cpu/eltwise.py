"""oneDNN's elementwise primitives on flat vectors."""

from __future__ import annotations

from typing import NamedTuple

from poseidon_caffe.backend.cpu.dnnl import (
    Alg,
    Arg,
    Desc,
    Dnnl,
    Primitive,
    PrimitiveDesc,
    Prop,
)

__all__ = ["DnnlEltwise"]


class _Kind(NamedTuple):
    """What one primitive computes, and on how many elements."""

    size: int
    alg: Alg
    alpha: float
    beta: float


class DnnlEltwise:
    """Makes the primitives, each once.  Arrays given to them must lie alike."""

    dnnl: Dnnl

    def __init__(self) -> None:
        super().__init__()
        self._forwards: dict[_Kind, tuple[PrimitiveDesc, Primitive]] = {}
        self._backwards: dict[_Kind, Primitive] = {}

    def _eltwise(
        self, count: int, alg: Alg, alpha: float = 0.0, beta: float = 0.0
    ) -> Primitive:
        """``run(x, y)``."""
        return self._forward(_Kind(count, alg, float(alpha), float(beta)))[1]

    def _eltwise_backward(
        self, count: int, alg: Alg, alpha: float = 0.0, beta: float = 0.0
    ) -> Primitive:
        """``run(x or y, dy, dx)``: y for the algorithms named after it (``_DST``)."""
        kind = _Kind(count, alg, float(alpha), float(beta))
        if kind not in self._backwards:
            flat = self.dnnl.desc((count,), (1,))
            hint = self._forward(kind)[0]
            desc = self.dnnl.describe(
                "eltwise_backward", alg, flat, flat, flat, kind.alpha, kind.beta, hint
            )
            given = Arg.DST if alg.name.endswith("_DST") else Arg.SRC
            operands: dict[int, Desc] = {
                given: flat, Arg.DIFF_DST: flat, Arg.DIFF_SRC: flat,
            }  # fmt: skip
            self._backwards[kind] = Primitive(desc, operands)
        return self._backwards[kind]

    def _forward(self, kind: _Kind) -> tuple[PrimitiveDesc, Primitive]:
        if kind not in self._forwards:
            flat = self.dnnl.desc((kind.size,), (1,))
            desc = self.dnnl.describe(
                "eltwise_forward", Prop.TRAINING, kind.alg, flat, flat,
                kind.alpha, kind.beta,
            )  # fmt: skip
            operands: dict[int, Desc] = {Arg.SRC: flat, Arg.DST: flat}
            self._forwards[kind] = (desc, Primitive(desc, operands))
        return self._forwards[kind]
