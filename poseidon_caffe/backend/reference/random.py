"""Random fills by explicit generators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np

from poseidon_caffe.types import Array

__all__ = ["ReferenceRandom"]

_PIECE_COUNT = 1 << 16
_NORMALS_COUNT = 1 << 15  # drawn at once, so that all steps stay in the cache


class _Dropping(Protocol):
    """What one who draws a mask and applies it needs."""

    def bernoulli(self, rng: Any, probability: float, out: Array) -> None: ...

    def dropout(self, x: Array, mask: Array, scale: float, y: Array) -> None: ...


class ReferenceRandom:
    """`RandomOps` by numpy.random.

    A large array is drawn in pieces along its first axis, each with a generator of
    its own, seeded from the given one: so the pieces may be drawn by any thread.
    Within a piece numbers come in C order.
    """

    def generator(self, seed_words: Sequence[int]) -> np.random.Generator:
        """A generator of its own for these non-negative numbers."""
        return np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed_words)))

    def bernoulli(self, rng: Any, probability: float, out: Array) -> None:
        """Fill uint8 ``out`` with ones of the given probability."""

        def draw(generator: np.random.Generator, piece: Array) -> None:
            numbers = generator.random(piece.shape, dtype=np.float32)
            np.less(numbers, probability, out=piece)

        self._in_pieces(rng, draw, out)

    def draw_dropout(
        self: _Dropping,
        rng: Any,
        probability: float,
        scale: float,
        x: Array,
        mask: Array,
        y: Array,
    ) -> None:
        """Fill ``mask`` as `bernoulli` does, and y = x * mask * scale."""
        self.bernoulli(rng, probability, mask)
        self.dropout(x, mask, scale, y)

    def uniform(self, rng: Any, low: float, high: float, out: Array) -> None:
        """Fill ``out`` evenly from [low, high)."""

        def draw(generator: np.random.Generator, piece: Array) -> None:
            values = _room(piece)
            generator.random(dtype=np.float32, out=values)
            _affine(values, high - low, low, piece)

        self._in_pieces(rng, draw, out)

    def normal(self, rng: Any, mean: float, std: float, out: Array) -> None:
        """Fill ``out`` with normal numbers."""

        def draw(generator: np.random.Generator, piece: Array) -> None:
            values = _room(piece)
            flat = values.reshape(-1)
            for start in range(0, flat.size, _NORMALS_COUNT):
                _normals(generator, flat[start : start + _NORMALS_COUNT])
            _affine(values, std, mean, piece)

        self._in_pieces(rng, draw, out)

    def _run_pieces(self, work: Sequence[Callable[[], None]]) -> None:
        """Draw all pieces, in any order."""
        for piece in work:
            piece()

    def _in_pieces(
        self,
        rng: np.random.Generator,
        draw: Callable[[np.random.Generator, Array], None],
        out: Array,
    ) -> None:
        rows = max(1, _PIECE_COUNT // max(out[:1].size, 1)) if out.ndim else 1
        if not out.ndim or out.shape[0] <= rows:
            draw(rng, out)
            return
        key = rng.integers(1 << 63, size=2).tolist()

        def one(index: int) -> None:
            seed = np.random.SeedSequence((*key, index))
            generator = np.random.Generator(np.random.SFC64(seed))
            draw(generator, out[index * rows : (index + 1) * rows])

        count = -(-out.shape[0] // rows)
        self._run_pieces([partial(one, index) for index in range(count)])


def _normals(generator: np.random.Generator, out: Array) -> None:
    """Fill flat float32 ``out`` with standard normal numbers, by Box and Muller.

    NumPy's own take twice as long: their steps are not vectorised.
    """
    half = (out.size + 1) // 2
    both = out if out.size == 2 * half else np.empty(2 * half, np.float32)
    generator.random(dtype=np.float32, out=both)
    radius, angle = both[:half], both[half:]
    np.subtract(1, radius, out=radius)  # from (0, 1], whose logarithm is finite
    np.log(radius, out=radius)
    radius *= np.float32(-2)
    np.sqrt(radius, out=radius)
    angle *= np.float32(2 * np.pi)
    sine = np.sin(angle)
    np.cos(angle, out=angle)
    angle *= radius
    radius *= sine
    if both is not out:
        out[...] = both[: out.size]


def _room(piece: Array) -> Array:
    """``piece`` itself if float32 numbers can be drawn into it, else a buffer."""
    if piece.dtype == np.float32 and piece.flags.c_contiguous:
        return piece
    return np.empty(piece.shape, np.float32)


def _affine(values: Array, scale: float, shift: float, out: Array) -> None:
    """out = scale values + shift, in float32."""
    if scale != 1.0:
        values *= np.float32(scale)
    if shift != 0.0:
        values += np.float32(shift)
    if values is not out:
        out[...] = values
