"""Normalisation within channels: oneDNN's average pooling between elementwise steps."""

from __future__ import annotations

import math

from poseidon_caffe.backend.cpu.dnnl import (
    Alg,
    Arg,
    Desc,
    Dnnl,
    PostOp,
    Primitive,
    Prop,
)
from poseidon_caffe.backend.cpu.shares import in_shares
from poseidon_caffe.backend.geometry import LrnGeometry
from poseidon_caffe.backend.memory import empty_array
from poseidon_caffe.backend.threads import ThreadPool
from poseidon_caffe.errors import BackendError
from poseidon_caffe.types import Array

__all__ = ["WithinLrn"]

_CACHED_COUNT = 1 << 18  # elements at once: the steps' values stay in the cache
_USUAL_BETA = 0.75


class _Images:
    """y = x s^-beta, s = 1 + alpha times the window's mean of x^2, for some images.

    Most steps are post-operations of few primitives.

    Args:
        geometry: of the whole batch.
        dnnl: the library.
        like: as many images as they lie in memory, dense.

    Raises:
        BackendError: oneDNN has no fast pooling for these windows.
    """

    def __init__(self, geometry: LrnGeometry, dnnl: Dnnl, like: Array) -> None:
        self._dnnl, self._size = dnnl, geometry.size
        self._data = data = dnnl.desc_of(like)
        beta = geometry.beta
        self._square, self._root = self._eltwise(Alg.SQUARE), self._eltwise(Alg.SQRT)
        scale = PostOp(Alg.LINEAR, alpha=geometry.alpha, beta=1.0)
        times, divide = PostOp(Alg.MUL, data), PostOp(Alg.DIV, data)
        #: Of s and of z s^-beta by roots: s is kept as its root.
        self._by_roots = beta == _USUAL_BETA
        if self._by_roots:
            inverse = PostOp(Alg.POW, alpha=1.0, beta=-1.0)
            self._scale = self._pool(scale, PostOp(Alg.SQRT))
            self._normal = self._product(inverse, times)
            self._ratio = self._product(divide, divide)
        else:
            power = (PostOp(Alg.LOG), PostOp(Alg.LINEAR, alpha=-beta), PostOp(Alg.EXP))
            self._scale = self._pool(scale)
            self._inverse = self._pool(scale, *power)
            self._normal = self._product()
            self._ratio = self._product(divide)
        # Every window that an element is in lies as its own: the same mean.
        self._slope = self._pool(PostOp(Alg.LINEAR, alpha=-2 * geometry.alpha * beta))
        self._sum = self._product(PostOp(Alg.ADD, data))
        self._spare = [empty_array(like.size) for _ in range(3)]

    def _eltwise(self, alg: Alg) -> Primitive:
        data = self._data
        desc = self._dnnl.describe(
            "eltwise_forward", Prop.INFERENCE, alg, data, data, 0.0, 0.0
        )
        return Primitive(desc, {Arg.SRC: data, Arg.DST: data})

    def _product(self, *then: PostOp) -> Primitive:
        """``run(a, b, operands of then..., result)``."""
        data, attr = self._data, self._dnnl.attr(then=then)
        desc = self._dnnl.describe("binary", Alg.MUL, data, data, data, attr=attr)
        return Primitive(
            desc,
            {Arg.SRC: data, Arg.SRC_1: data, **_operands(then), Arg.DST: data},
        )

    def _pool(self, *then: PostOp) -> Primitive:
        """The mean over each window, zeros around the image: ``run(a, result)``.

        Post-operations with an operand give wrong results in plain layout.
        """
        data, size, pad = self._data, self._size, (self._size // 2,) * 2
        desc = self._dnnl.describe(
            "pooling_forward", Prop.INFERENCE, Alg.POOL_AVG_PADDED, data, data,
            (1, 1), (size, size), (0, 0), pad, pad, attr=self._dnnl.attr(then=then),
        )  # fmt: skip
        if not desc.implementation.startswith("jit"):
            raise BackendError("oneDNN has no fast average pooling of these windows")
        return Primitive(desc, {Arg.SRC: data, Arg.DST: data})

    def _normalise(self, x: Array, z: Array, out: Array) -> None:
        """out = z s^-beta; leaves the root of s, or else x^2, among the spare."""
        square, root, fourth = self._spare
        self._square(x, square)
        if not self._by_roots:
            self._inverse(square, root)
            self._normal(root, z, out)
            return
        self._scale(square, root)
        self._root(root, fourth)
        self._normal(root, fourth, z, out)

    def forward(self, x: Array, y: Array) -> None:
        """y = normalised x."""
        self._normalise(x, x, y)

    def backward(self, x: Array, dy: Array, dx: Array) -> None:
        """dx = dy s^-beta - 2 alpha beta x mean(x dy s^-beta / s); may be dy or x."""
        square, scale, direct = self._spare
        self._normalise(x, dy, direct)
        ratio = square
        if self._by_roots:
            self._ratio(x, direct, scale, scale, ratio)
        else:
            self._scale(square, scale)
            self._ratio(x, direct, scale, ratio)
        self._slope(ratio, scale)
        self._sum(x, scale, direct, dx)


def _operands(then: tuple[PostOp, ...]) -> dict[int, Desc]:
    """Of post-operations that take one, in their order."""
    return {
        Arg.POST_OP * (i + 1) | Arg.SRC_1: op.operand
        for i, op in enumerate(then)
        if op.operand is not None
    }


class WithinLrn:
    """Normalises a batch, a few images at a time.

    Args:
        geometry: of the batch; within channels.
        dnnl: the library.
        pool: its threads share the images.
        x: the batch as it lies in memory, dense; all arrays must lie so.

    Raises:
        BackendError: oneDNN has no fast pooling for these windows.
    """

    def __init__(
        self, geometry: LrnGeometry, dnnl: Dnnl, pool: ThreadPool, x: Array
    ) -> None:
        self._geometry, self._dnnl, self._pool = geometry, dnnl, pool
        self._step = max(1, _CACHED_COUNT // math.prod(x.shape[1:]))
        self._kernels: dict[tuple[int, int], _Images] = {}
        self._kernel(0, x[: self._step])

    def _kernel(self, thread: int, x: Array) -> _Images:
        """One of the thread's own for so many images."""
        key = (thread, len(x))
        if key not in self._kernels:
            self._kernels[key] = _Images(self._geometry, self._dnnl, x)
        return self._kernels[key]

    def forward(self, x: Array, y: Array) -> None:
        """y = normalised x."""

        def work(thread: int, part: slice) -> None:
            self._kernel(thread, x[part]).forward(x[part], y[part])

        in_shares(self._pool, self._dnnl, len(x), self._step, work)

    def backward(self, x: Array, dy: Array, dx: Array) -> None:
        """dx = gradient; may be written over x or dy."""

        def work(thread: int, part: slice) -> None:
            self._kernel(thread, x[part]).backward(x[part], dy[part], dx[part])

        in_shares(self._pool, self._dnnl, len(x), self._step, work)
