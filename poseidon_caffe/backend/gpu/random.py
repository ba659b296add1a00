"""Random numbers drawn on the GPU: Philox, by counter, in C order of the shape."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from poseidon_caffe.backend.gpu.launcher import ANY_STORAGE, THREADS, WARP, Launcher
from poseidon_caffe.backend.gpu.maps import PACK_BYTES, GpuMaps
from poseidon_caffe.backend.gpu.memory import DeviceMemory
from poseidon_caffe.types import Array, JsonObject, Shape

__all__ = ["GpuRandom", "PhiloxGenerator"]

_KIND = "Philox4x32-10"
_WORD = 1 << 63
_TICKET_BITS = 20  # as random.cu has it
_TICKETS = 2048  # blocks that wait for one word of memory, at most
_GROUP = 4  # elements of a thread, or a pack of them


class PhiloxGenerator:
    """Random words by Philox4x32-10, all of whose state lies on the device.

    Word ``j`` of block ``i`` of draw ``d`` follows from the key and (d, i, j) alone.
    A kernel reads the state and `step`, given to the stream after it, counts the draw
    (or the kernel counts it, by a ticket that its blocks take): so a recorded graph
    draws new numbers whenever it is run.

    Args:
        memory: of the device.
        kernels: of ``random.cu``.
        seed_words: non-negative numbers; the same ones give the same generator.

    Attributes:
        words: int64 (3,) on the device: the key, the draws so far, and their ticket.
    """

    def __init__(
        self, memory: DeviceMemory, kernels: Launcher, seed_words: Sequence[int]
    ) -> None:
        self._memory, self._kernels = memory, kernels
        self.words = memory.zeros(3, np.int64)
        self._set(_key(seed_words), 0)

    def step(self) -> None:
        """Count one draw, once the kernel has read `words`."""
        self._kernels.blocks("next_draw", ANY_STORAGE, 1, self.words, threads=WARP)

    def state(self) -> JsonObject:
        """Key and draws so far; waits for the device."""
        words = np.empty(3, np.int64)
        self._memory.download(self.words, words)
        return {"bit_generator": _KIND, "key": int(words[0]), "draws": int(words[1])}

    def restore(self, state: JsonObject) -> None:
        """Draw on from what `state` gave.

        The state of another kind of generator (of a run on the CPU) gives numbers of
        its own, the same in every such resume.
        """
        if state["bit_generator"] == _KIND:
            self._set(state["key"], state["draws"])
        else:
            self._set(_key(state["state"]["state"]), 0)

    def _set(self, key: int, draws: int) -> None:
        words = np.array([key, draws, draws << _TICKET_BITS], np.int64)
        self._memory.upload(words, self.words)


def _key(words: Sequence[int]) -> int:
    """63 bits out of any numbers."""
    mixed = np.random.SeedSequence(list(words)).generate_state(1, np.uint64)
    return int(mixed[0]) % _WORD


class GpuRandom(GpuMaps):
    """`RandomOps` on a GPU, by `PhiloxGenerator`.

    Element i in C order gets word i % 4 of block i / 4, whatever the layout.  Normal
    numbers come in pairs (0, 1) and (2, 3) of a block, by Box and Muller.
    """

    def generator(self, seed_words: Sequence[int]) -> PhiloxGenerator:
        """A generator of its own for these non-negative numbers."""
        return PhiloxGenerator(self.memory, self.kernels("random"), seed_words)

    def bernoulli(self, rng: PhiloxGenerator, probability: float, out: Array) -> None:
        """Fill uint8 ``out`` with ones of the given probability."""
        self._draw("bernoulli", ANY_STORAGE, rng, out, float(probability))

    def draw_dropout(
        self,
        rng: PhiloxGenerator,
        probability: float,
        scale: float,
        x: Array,
        mask: Array,
        y: Array,
    ) -> None:
        """Fill ``mask`` as `bernoulli` does, and y = x * mask * scale, in one pass.

        Arrays that are neither all plain nor all channels-last take two.
        """
        kernel, order = "dropout_forward", _common_order(x, mask, y)
        each = max(_GROUP, PACK_BYTES // x.itemsize)
        if order is None or not x.size:
            self.bernoulli(rng, probability, mask)
            self.map("activation", "dropout", [x, mask], y, float(scale))
            return
        arrays = [a.transpose(order).reshape(-1) for a in (x, mask, y)]
        numbers: tuple[int, ...] = ()
        if order != tuple(range(x.ndim)):
            kernel, each = "dropout_channels_last", 1
            numbers = x.shape[1], x.size // (x.shape[0] * x.shape[1])
        blocks = min(-(-x.size // (each * THREADS)), _TICKETS)
        self.kernels("random").blocks(
            kernel, x.dtype, blocks, rng.words, *arrays, float(probability),
            float(scale), *numbers, x.size,
        )  # fmt: skip

    def uniform(
        self, rng: PhiloxGenerator, low: float, high: float, out: Array
    ) -> None:
        """Fill ``out`` evenly from [low, high), in float32 steps."""
        self._draw("uniform_fill", out.dtype, rng, out, float(low), float(high - low))

    def normal(self, rng: PhiloxGenerator, mean: float, std: float, out: Array) -> None:
        """Fill ``out`` with normal numbers, float32 ones for any dtype."""
        self._draw("normal_fill", out.dtype, rng, out, float(mean), float(std))

    def _draw(
        self,
        kernel: str,
        dtype: np.dtype,
        rng: PhiloxGenerator,
        out: Array,
        *numbers: float,
    ) -> None:
        """Run a kernel in C order, then copy if ``out`` lies otherwise."""
        plain = out
        if not out.flags.c_contiguous:
            plain = self.scratch.take("draw", out.shape, out.dtype)
        blocks = -(-out.size // 4)
        self.kernels("random").each(
            kernel, dtype, blocks, rng.words, plain, *numbers, out.size
        )
        rng.step()
        if plain is not out:
            self.copy(plain, out)


def _common_order(*arrays: Array) -> Shape | None:
    """Axes in the order of all the arrays' memory: plain or channels-last, or None."""
    ndim = arrays[0].ndim
    for order in (tuple(range(ndim)), (0, *range(2, ndim), 1)):
        if len(order) == ndim and all(
            a.transpose(order).flags.c_contiguous for a in arrays
        ):
            return order
    return None
