"""Pooling: the largest, the mean or a random value of each window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.backend.geometry import PoolGeometry
from poseidon_caffe.backend.protocols import PoolKernel
from poseidon_caffe.errors import LayerError
from poseidon_caffe.layers.base import Example, Layer, LayerContext, Storage
from poseidon_caffe.layers.generators import generator_state, restore_generator
from poseidon_caffe.layers.registry import register
from poseidon_caffe.layers.windows import check_integers
from poseidon_caffe.types import JsonObject, Phase, Shape

__all__ = ["Pooling", "pooled_length", "stochastic_examples"]

_METHODS = ("max", "ave", "stochastic")
_FLOOR = 1


def pooled_length(
    size: int, kernel: int, stride: int, pad: int, *, floor: bool, clip: bool
) -> int:
    """Output length of one pooled axis, rounded up unless ``floor``.

    With ``clip`` (any padding on either axis) the last window is dropped when it
    would start past the image and its leading padding.
    """
    room = size + 2 * pad - kernel
    steps = room // stride if floor else -(-room // stride)
    length = steps + 1
    if clip and (length - 1) * stride >= size + pad:
        length -= 1
    return length


def stochastic_examples(field: str, text: str) -> list[Example]:
    """Both phases of STOCHASTIC pooling for a layer with these settings."""
    param, shape = f"{field} {{ pool: STOCHASTIC {text} }}", (2, 3, 8, 6)
    test = Example(param, (shape,), phase=Phase.TEST, positive=True)
    # Samples leap when the values move, so there is no numeric gradient.
    train = replace(test, phase=Phase.TRAIN, stochastic=True, check_gradient=False)
    return [test, train]


@register("Pooling")
class Pooling(Layer):
    """y = max, mean or a random element of each window of a plane.

    Bottoms: (N, C, H, W).
    Tops: (N, C, H', W'); H' = ceil((H + 2 pad - kernel) / stride) + 1 (or floor with
    ``round_mode: FLOOR``), less one when the last window would start in the trailing
    padding.  MAX may have a second top: each winner's index in its H * W plane, by
    which backward then goes.

    ``pooling_param``: ``pool`` (MAX, AVE or STOCHASTIC; default MAX), ``kernel_size``
    or ``kernel_h`` and ``kernel_w``, ``stride`` (default 1), ``pad`` (default 0; both
    also as ``_h`` and ``_w``), ``round_mode``, ``global_pooling`` (the whole plane).

    STOCHASTIC: in TRAIN an element with a probability in proportion to its value; in
    TEST the mean weighted so, sum x^2 / sum x.  For values that are not negative, and
    without padding.  Draws from its own generator (seed, layer name, rank), which
    snapshots keep.

    Caffe parity: exact.  MAX ignores padding; AVE divides by the window's part
    inside the padded image.  STOCHASTIC runs on every backend (Caffe's only on GPUs),
    with other random numbers; its gradient in TEST is that of the weighted mean.
    """

    storage = Storage.BOTTOM
    backward_reads_bottom = False
    backward_reads_top = False

    num_bottom = 1
    min_top = 1
    max_top = 2

    def __init__(self, param: Any, context: LayerContext) -> None:
        super().__init__(param, context)
        self._windows: tuple[Shape, Shape, Shape] = ((), (), ())
        self._geometry: PoolGeometry | None = None
        self._kernel: PoolKernel | None = None
        self._rng: Any = None
        if self.method == "stochastic" and self.phase == Phase.TRAIN:
            self._rng = context.generator(f"pooling/{self.name}")
        elif self.method == "stochastic":
            # The weighted mean's gradient needs both.
            self.backward_reads_bottom = self.backward_reads_top = True

    @classmethod
    def storage_of(cls, param: Any) -> Storage:
        """A mask's indices need more than 16 bits."""
        return Storage.FLOAT if len(param.top) > 1 else cls.storage

    @property
    def method(self) -> str:
        """One of max, ave and stochastic."""
        return _METHODS[self.param.pooling_param.pool]

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Check the settings."""
        if len(top) > 1 and self.method != "max":
            raise LayerError(self.describe("only MAX pooling has a second top (mask)"))
        if len(top) > 1:
            # The mask says where the gradient goes.
            self.backward_reads_top = True
        p = self.param.pooling_param
        if p.global_pooling:
            self._check_global(p)
            return
        kernel = self._pair(p, "kernel", "kernel_size", None)
        stride = self._pair(p, "stride", "stride", 1)
        pad = self._pair(p, "pad", "pad", 0)
        check_integers(self, (*kernel, *stride, *pad))
        if min(kernel) < 1 or min(stride) < 1:
            problem = f"kernel {kernel} and stride {stride} must be positive"
            raise LayerError(self.describe(problem))
        if pad[0] >= kernel[0] or pad[1] >= kernel[1]:
            problem = f"pad {pad} must be smaller than the kernel {kernel}"
            raise LayerError(self.describe(problem))
        if any(pad) and self.method == "stochastic":
            raise LayerError(self.describe("STOCHASTIC pooling takes no padding"))
        self._windows = (kernel, stride, pad)

    def _check_global(self, p: Any) -> None:
        """Global pooling takes no window of its own."""
        given = [f for f in ("kernel_size", "kernel_h", "kernel_w") if p.HasField(f)]
        if given:
            problem = f"global_pooling excludes {', '.join(given)}"
            raise LayerError(self.describe(problem))
        pad = self._pair(p, "pad", "pad", 0)
        stride = self._pair(p, "stride", "stride", 1)
        if pad != (0, 0) or stride != (1, 1):
            raise LayerError(self.describe("global_pooling needs pad 0 and stride 1"))

    def _pair(self, p: Any, stem: str, field: str, default: int | None) -> Shape:
        """(height, width) of one setting."""
        high, wide = f"{stem}_h", f"{stem}_w"
        split = p.HasField(high) or p.HasField(wide)
        if split and p.HasField(field):
            problem = f"give {field} or {high} and {wide}, not both"
            raise LayerError(self.describe(problem))
        if split:
            if stem != "pad" and not (p.HasField(high) and p.HasField(wide)):
                problem = f"{high} and {wide} must be given together"
                raise LayerError(self.describe(problem))
            return (getattr(p, high), getattr(p, wide))
        if default is None and not p.HasField(field):
            problem = f"needs {field} (or {high} and {wide})"
            raise LayerError(self.describe(problem))
        return (getattr(p, field),) * 2

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Shape the tops; make a new kernel if the geometry changed."""
        shape = bottom[0].shape
        if len(shape) != 4:
            raise self.shape_error("needs 4 axes (N, C, H, W)", bottom)
        p = self.param.pooling_param
        kernel, stride, pad = self._windows
        if p.global_pooling:
            kernel, stride, pad = shape[2:], (1, 1), (0, 0)
        pooled = tuple(
            pooled_length(
                shape[2 + i], kernel[i], stride[i], pad[i],
                floor=p.round_mode == _FLOOR, clip=any(pad),
            )
            for i in range(2)
        )  # fmt: skip
        if min(pooled) < 1:
            raise self.shape_error(f"the kernel {kernel} exceeds the input", bottom)
        geometry = PoolGeometry(
            shape, (*shape[:2], *pooled), kernel, stride, pad, self.method
        )
        for blob in top:
            blob.reshape(geometry.y_shape)
        if geometry != self._geometry:
            self._geometry, self._kernel = geometry, None

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Pool; fill the mask if it is a top."""
        if self._kernel is None:
            assert self._geometry is not None
            self._kernel = self.ops.pooling(self._geometry)
        mask = top[1].data if len(top) > 1 else None
        self._kernel.forward(bottom[0].data, top[0].data, mask, self._rng)

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """Give each window's gradient to its winner, or to all in equal parts."""
        if propagate_down[0] and self._kernel is not None:
            mask = top[1].data if len(top) > 1 else None
            self._kernel.backward(top[0].diff, bottom[0].diff, mask)

    def state(self) -> JsonObject:
        """The generator's state, where there is one."""
        return {} if self._rng is None else {"rng": generator_state(self._rng)}

    def restore_state(self, state: JsonObject) -> None:
        """Draw on from a saved state."""
        if "rng" in state and self._rng is not None:
            restore_generator(self._rng, state["rng"])

    @classmethod
    def examples(cls) -> list[Example]:
        """Both methods with every rule of size, padding and rounding."""

        def pool(text: str, shape: Shape = (2, 3, 7, 8), num_top: int = 0) -> Example:
            param = f"pooling_param {{ {text} }}"
            # The mask is not differentiable, so its gradient is not checked.
            check = num_top < 2
            return Example(param, (shape,), num_top, check_gradient=check)

        return [
            pool("pool: MAX kernel_size: 2 stride: 2"),
            pool("pool: MAX kernel_size: 3 stride: 2"),
            pool("pool: MAX kernel_size: 3 stride: 2 pad: 1"),
            pool("pool: MAX kernel_size: 3 stride: 2 round_mode: FLOOR"),
            pool("pool: MAX kernel_size: 3 stride: 2", num_top=2),
            pool("pool: MAX kernel_h: 2 kernel_w: 3 stride_h: 1 stride_w: 2"),
            pool("pool: MAX global_pooling: true"),
            pool("pool: AVE kernel_size: 2 stride: 2"),
            pool("pool: AVE kernel_size: 3 stride: 2"),
            pool("pool: AVE kernel_size: 3 stride: 2 pad: 1"),
            pool("pool: AVE kernel_size: 3 pad_h: 1 pad_w: 2 stride: 2", (1, 2, 5, 6)),
            pool("pool: AVE global_pooling: true"),
            *stochastic_examples("pooling_param", "kernel_size: 3 stride: 2"),
        ]
