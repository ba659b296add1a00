"""Dropout: silences a random part of its input in training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.errors import LayerError
from poseidon_caffe.layers.base import Example, LayerContext
from poseidon_caffe.layers.generators import generator_state, restore_generator
from poseidon_caffe.layers.layout import like
from poseidon_caffe.layers.neuron import NeuronLayer
from poseidon_caffe.layers.registry import register
from poseidon_caffe.types import JsonObject, Phase

__all__ = ["Dropout"]


@register("Dropout")
class Dropout(NeuronLayer):
    """TRAIN: y = x * mask / (1 - ratio), mask 0 with probability ratio.  TEST: y = x.

    Bottoms, tops: one of any shape; in place allowed.
    Draws from its own generator (seed, layer name, rank), which snapshots keep.

    Caffe parity: the same distribution and scaling, other random numbers.
    """

    backward_reads_bottom = False
    backward_reads_top = False

    def __init__(self, param: Any, context: LayerContext) -> None:
        super().__init__(param, context)
        self._ratio = float(param.dropout_param.dropout_ratio)
        self._rng = context.generator(f"dropout/{self.name}")
        self._mask: Blob | None = None

    @property
    def _scale(self) -> float:
        return 1 / (1 - self._ratio)

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """The ratio must leave something."""
        if not 0 <= self._ratio < 1:
            problem = f"dropout_ratio must be in [0, 1), not {self._ratio:g}"
            raise LayerError(self.describe(problem))

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """The mask lies in memory as the bottom does."""
        super().reshape(bottom, top)
        if self.phase == Phase.TEST:
            return
        if self._mask is None or self._mask.channels_last != bottom[0].channels_last:
            self._mask = like(bottom[0], np.uint8)
        self._mask.reshape(bottom[0].shape)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Draw a mask and apply it; copy in TEST."""
        x, y = bottom[0].data, top[0].data
        if self._mask is not None:
            keep, mask = 1 - self._ratio, self._mask.data
            self.ops.draw_dropout(self._rng, keep, self._scale, x, mask, y)
        elif bottom[0] is not top[0]:
            self.ops.copy(x, y)

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """The same mask on the gradient."""
        if not propagate_down[0]:
            return
        dy, dx = top[0].diff, bottom[0].diff
        if self._mask is not None:
            self.ops.dropout(dy, self._mask.data, self._scale, dx)
        elif bottom[0] is not top[0]:
            self.ops.copy(dy, dx)

    def state(self) -> JsonObject:
        """The generator's state."""
        return {"rng": generator_state(self._rng)}

    def restore_state(self, state: JsonObject) -> None:
        """Draw on from a saved state."""
        if "rng" in state:
            restore_generator(self._rng, state["rng"])

    @classmethod
    def examples(cls) -> list[Example]:
        """Identity in TEST, random in TRAIN."""
        ratio = "dropout_param { dropout_ratio: 0.3 }"
        return [
            Example(ratio, in_place=True, phase=Phase.TEST),
            Example(ratio, stochastic=True, check_gradient=False),
            Example("dropout_param { dropout_ratio: 0 }", in_place=True),
        ]
