"""DummyData: tops from fillers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.backend.memory import memory_limit
from poseidon_caffe.errors import LayerError
from poseidon_caffe.layers.base import Example, Layer, LayerContext
from poseidon_caffe.layers.fillers import check_filler, fill
from poseidon_caffe.layers.generators import generator_state, restore_generator
from poseidon_caffe.layers.registry import register
from poseidon_caffe.schema.messages import FillerParameter
from poseidon_caffe.types import JsonObject, Shape

__all__ = ["DummyData"]

_OLD_FIELDS = ("num", "channels", "height", "width")


@register("DummyData")
class DummyData(Layer):
    """Constant or random tops.

    Tops: one or more; ``shape`` (or the old num, channels, height and width) and
    ``data_filler`` are given once for all tops or once each; without a filler tops
    are 0.  Constant tops are filled once, when the net is built, others anew in
    every forward.

    Caffe parity: exact, but for the random numbers.
    """

    num_bottom = 0
    min_top = 1

    def __init__(self, param: Any, context: LayerContext) -> None:
        super().__init__(param, context)
        self._rng = context.host_generator(f"dummy/{self.name}")
        self._fillers: list[Any] = []
        self._filled: list[Shape | None] = []

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Shape the tops once."""
        p = self.param.dummy_data_param
        fillers = list(p.data_filler) or [FillerParameter()]
        if len(fillers) not in {1, len(top)}:
            problem = f"has {len(fillers)} data_filler for {len(top)} tops (1 or all)"
            raise LayerError(self.describe(problem))
        self._fillers = fillers * len(top) if len(fillers) == 1 else fillers
        shapes = self._shapes(p, len(top))
        for i, blob in enumerate(top):
            blob.reshape(shapes[i] if len(shapes) > 1 else shapes[0])
        self._filled = [None] * len(top)
        for filler in fillers:
            check_filler(filler, self.describe("data_filler"))
        # A script may look at constants, and change them, before the first forward.
        # A net refuses what does not fit in memory, but only after the setup.
        if all(b.count * b.dtype.itemsize <= memory_limit() for b in top):
            self._fill(top, constants=True)

    def _shapes(self, p: Any, tops: int) -> list[Shape]:
        """One shape, or one a top."""
        old = [list(getattr(p, field)) for field in _OLD_FIELDS]
        if any(old) and len(p.shape):
            problem = "give shape or num, channels, height and width, not both"
            raise LayerError(self.describe(problem))
        if not any(old):
            shapes = [tuple(shape.dim) for shape in p.shape]
            if len(shapes) not in {1, tops}:
                problem = f"has {len(shapes)} shapes for {tops} tops (give 1 or all)"
                raise LayerError(self.describe(problem))
            return shapes
        if any(len(values) not in {1, tops} for values in old):
            problem = "num, channels, height and width must be given once or for each"
            raise LayerError(self.describe(f"{problem} of the {tops} tops"))
        each = [values * tops if len(values) == 1 else values for values in old]
        return list(zip(*each, strict=True))

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Nothing: the user may have reshaped the tops."""

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Fill what is random, or not filled yet at its shape."""
        self._fill(top)

    def _fill(self, top: Sequence[Blob], *, constants: bool = False) -> None:
        """Fill the tops, or only those that are constant."""
        for i, (blob, filler) in enumerate(zip(top, self._fillers, strict=True)):
            constant = filler.type == "constant"
            if self._filled[i] == blob.shape if constant else constants:
                continue
            where = self.describe("data_filler")
            values = blob.mutable_cpu_data
            fill(values, filler, self._rng, self.ops.host, where=where)
            self._filled[i] = blob.shape

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """Nothing: there is no bottom."""

    def state(self) -> JsonObject:
        """The generator's state."""
        return {"rng": generator_state(self._rng)}

    def restore_state(self, state: JsonObject) -> None:
        """Draw on from a saved state."""
        if "rng" in state:
            restore_generator(self._rng, state["rng"])

    @classmethod
    def examples(cls) -> list[Example]:
        """Both spellings of shapes, constant and random."""
        shape = "shape { dim: 2 dim: 3 }"
        random = 'data_filler { type: "gaussian" }'
        old = "num: 2 channels: 3 height: 4 width: 5"
        constant = "data_filler { value: 3 }"

        def dummy(text: str, num_top: int, *, stochastic: bool = False) -> Example:
            param = f"dummy_data_param {{ {text} }}"
            return Example(param, (), num_top, stochastic=stochastic)

        return [
            dummy(shape, 1),
            dummy(f"{old} {constant}", 2),
            dummy(f"{shape} {random}", 1, stochastic=True),
            dummy(f"{shape} {shape} {random} {constant}", 2, stochastic=True),
        ]
