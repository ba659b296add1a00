"""Let blobs that are never alive together share memory.

One iteration is a line of steps: forward of layer i is step i, its backward step
2 L - 1 - i.  Every piece of memory (a `Buffer`, whatever blobs see it) is alive from
the first step that writes it to the last that reads it.  Pieces are placed in one
arena, the largest first, each at the lowest place free during its life.

Kept out: data and labels, the net's outputs, losses and their weights, parameters,
and gradients that backward reads but no layer writes (those of a blob that only an
Accuracy reads): they are zero, or loss weights, and must stay so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.backend.memory import Buffer
from poseidon_caffe.layers.eltwise import Eltwise
from poseidon_caffe.layers.split import Split

if TYPE_CHECKING:
    from poseidon_caffe.net.net import Net

__all__ = ["Life", "place", "share_memory"]

_ALIGN_COUNT = 16
_WORD_BYTES = 4


@dataclass
class Life:
    """A piece of memory: its size in words of 4 bytes and the steps it must last."""

    count: int
    first: int
    last: int

    def meets(self, other: Life) -> bool:
        """Whether both are alive at some step."""
        return self.first <= other.last and other.first <= self.last

    def extend(self, count: int, step: int) -> None:
        """Also hold ``count`` words at ``step``."""
        self.count = max(self.count, count)
        self.first, self.last = min(self.first, step), max(self.last, step)


def place(lives: list[Life]) -> tuple[list[int], int]:
    """Offsets such that pieces alive together do not overlap, and the total."""
    order = sorted(range(len(lives)), key=lambda i: (-lives[i].count, lives[i].first))
    offsets = [0] * len(lives)
    placed: list[int] = []
    total = 0
    for i in order:
        taken = sorted(
            (offsets[j], offsets[j] + lives[j].count)
            for j in placed
            if lives[j].meets(lives[i])
        )
        at = 0
        for start, stop in taken:
            if at + lives[i].count <= start:
                break
            at = max(at, -(-stop // _ALIGN_COUNT) * _ALIGN_COUNT)
        offsets[i] = at
        placed.append(i)
        total = max(total, at + lives[i].count)
    return offsets, total


def share_memory(net: Net) -> None:
    """Move the net's activations and gradients into one planned arena."""
    written = _written_gradients(net)
    constant = _constant_gradients(net, written)
    _alias_gradients(net, written)
    lives: dict[int, Life] = {}
    buffers: dict[int, Buffer] = {}
    for storage, count, step in _uses(net):
        words = -(-count * storage.dtype.itemsize // _WORD_BYTES)
        life = lives.setdefault(id(storage), Life(words, step, step))
        life.extend(words, step)
        buffers[id(storage)] = storage
    for key in _kept(net) | constant:
        lives.pop(key, None)
    keys = list(lives)
    offsets, total = place([lives[key] for key in keys])
    if not keys:
        return
    memory = buffers[keys[0]].memory
    arena = memory.zeros(total * _WORD_BYTES, np.uint8)
    for key, offset in zip(keys, offsets, strict=True):
        size = lives[key].count * _WORD_BYTES
        piece = arena[offset * _WORD_BYTES :][:size]
        buffers[key].move(piece.view(buffers[key].dtype))


def _uses(net: Net) -> Iterator[tuple[Buffer, int, int]]:
    """(memory, elements, step) for every time a layer touches a blob."""
    last = 2 * len(net.layers) - 1
    for i, layer in enumerate(net.layers):
        bottoms, tops = net.bottom_blobs[i], net.top_blobs[i]
        for blob in (*bottoms, *tops):
            yield blob.data_storage, blob.count, i
        if not net.layer_need_backward[i]:
            continue
        step = last - i
        for reads, blobs in (
            (layer.backward_reads_bottom, bottoms),
            (layer.backward_reads_top, tops),
        ):
            for blob in blobs if reads else ():
                yield blob.data_storage, blob.count, step
        for blob in tops:
            yield blob.diff_storage, blob.count, step
        for blob, need in zip(bottoms, net.bottom_need_backward[i], strict=True):
            if need:
                yield blob.diff_storage, blob.count, step


def _kept(net: Net) -> set[int]:
    """Memory that must keep its values: ids of its storages."""
    kept: set[int] = set()

    def keep(blob: Blob) -> None:
        kept.update((id(blob.data_storage), id(blob.diff_storage)))

    for i, layer in enumerate(net.layers):
        for blob, weight in zip(net.top_blobs[i], layer.loss_weights, strict=True):
            if weight or not net.bottom_blobs[i]:
                keep(blob)
    for blob in net.output_blobs:
        keep(blob)
    for blob in net.params:
        keep(blob)
    return kept


def _written_gradients(net: Net) -> set[int]:
    """Gradient memory that backward writes: ids of its storages."""
    return {
        id(blob.diff_storage)
        for i, blobs in enumerate(net.bottom_blobs)
        for blob, need in zip(blobs, net.bottom_need_backward[i], strict=True)
        if need and net.layer_need_backward[i]
    }


def _constant_gradients(net: Net, written: set[int]) -> set[int]:
    """Gradient memory that backward reads and never writes: zeros, loss weights."""
    return {
        id(blob.diff_storage) for blobs in net.top_blobs for blob in blobs
    } - written


def _alias_gradients(net: Net, written: set[int]) -> None:
    """Let sums work in place.

    Split adds into one of its parts' gradients, and Eltwise SUM hands its gradient
    to one bottom without a copy; never into memory that must stay constant.
    """
    for i, layer in enumerate(net.layers):
        bottoms, tops = net.bottom_blobs[i], net.top_blobs[i]
        if not net.layer_need_backward[i] or not any(net.bottom_need_backward[i][:1]):
            continue
        if (isinstance(layer, Split) and len(tops) > 1) or (
            isinstance(layer, Eltwise) and layer.passes_gradient
        ):
            changing = [b for b in tops if id(b.diff_storage) in written]
            if changing:
                _alias(net, bottoms[0], changing[0])


def _alias(net: Net, one: Blob, other: Blob) -> None:
    """Give all blobs of ``one``'s diff memory that of ``other``."""
    old, new = one.diff_storage, other.diff_storage
    if old is new or math.prod(one.shape) != math.prod(other.shape):
        return
    if one.channels_last != other.channels_last or one.dtype != other.dtype:
        return
    for blob in net.blobs.values():
        if blob.diff_storage is old:
            blob.diff_storage = new
