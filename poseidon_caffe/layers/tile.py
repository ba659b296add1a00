"""Tile: copies laid side by side."""

from __future__ import annotations

from collections.abc import Sequence

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.errors import LayerError
from poseidon_caffe.layers.base import Example, Layer, Storage
from poseidon_caffe.layers.registry import register

__all__ = ["Tile"]


@register("Tile")
class Tile(Layer):
    """Lays ``tiles`` copies of the bottom side by side along ``axis``.

    Bottoms: one of any shape.  Tops: that axis is ``tiles`` times as long.

    Caffe parity: exact.
    """

    storage = Storage.MOVED
    backward_reads_bottom = False
    backward_reads_top = False

    num_bottom = 1
    num_top = 1

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """There must be at least one copy."""
        tiles = self.param.tile_param.tiles
        if tiles < 1:
            raise LayerError(self.describe(f"tiles must be positive, not {tiles}"))

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Lengthen the axis."""
        p, shape = self.param.tile_param, bottom[0].shape
        axis = bottom[0].canonical_axis(p.axis)
        top[0].reshape((*shape[:axis], shape[axis] * p.tiles, *shape[axis + 1 :]))

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Join the copies."""
        p = self.param.tile_param
        axis = bottom[0].canonical_axis(p.axis)
        self.ops.concat([bottom[0].data] * p.tiles, axis, top[0].data)

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """Sum the gradients of the copies."""
        if not propagate_down[0]:
            return
        p = self.param.tile_param
        axis = bottom[0].canonical_axis(p.axis)
        self.ops.sum_copies(top[0].diff, axis, p.tiles, bottom[0].diff)

    @classmethod
    def examples(cls) -> list[Example]:
        """Along several axes."""
        return [
            Example("tile_param { axis: 1 tiles: 3 }", bottoms=((2, 3, 4),)),
            Example("tile_param { tiles: 2 }"),
            Example("tile_param { axis: -1 tiles: 2 }"),
            Example("tile_param { axis: 0 tiles: 1 }"),
        ]
