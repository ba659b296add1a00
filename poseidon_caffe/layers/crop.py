"""Crop: a blob cut to the size of another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.layers.base import Example, Layer, LayerContext, Storage
from poseidon_caffe.layers.registry import register
from poseidon_caffe.types import Shape

__all__ = ["Crop"]


@register("Crop")
class Crop(Layer):
    """y = the part of x that starts at the offsets and has the second bottom's size.

    Bottoms: data; a blob whose shape (not its values) gives the size.
    Tops: the shape of the data up to ``axis`` (default 2), from there on that of the
    second bottom.

    ``offset`` (of ``crop_param``) is given never (0 everywhere), once (for all axes
    from ``axis`` on) or once per axis from ``axis`` on.  The gradient is 0 outside the
    part; the second bottom gets none.

    Caffe parity: exact.
    """

    storage = Storage.MOVED
    shape_bottoms = (1,)
    backward_reads_bottom = False
    backward_reads_top = False

    num_bottom = 2
    num_top = 1

    def __init__(self, param: Any, context: LayerContext) -> None:
        super().__init__(param, context)
        self._part: tuple[slice, ...] = ()

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """As many offsets as axes to crop, unless one or none."""
        p = self.param.crop_param
        axes = len(bottom[0].shape)
        start = bottom[0].canonical_axis(p.axis)
        if len(p.offset) > 1 and start + len(p.offset) != axes:
            problem = (
                f"has {len(p.offset)} offsets for the {axes - start} axes from "
                f"axis {p.axis} on; give one, or one per axis"
            )
            raise self.shape_error(problem, bottom)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Find the part and give the top its shape."""
        p = self.param.crop_param
        shape, size = bottom[0].shape, bottom[1].shape
        start = bottom[0].canonical_axis(p.axis)
        if len(size) < len(shape):
            problem = f"the second bottom must have {len(shape)} axes too"
            raise self.shape_error(problem, bottom)
        offsets = list(p.offset) or [0]
        if len(offsets) == 1:
            offsets *= len(shape) - start
        part = [slice(0, n) for n in shape[:start]]
        for axis, offset in enumerate(offsets, start):
            if offset + size[axis] > shape[axis]:
                problem = (
                    f"cannot take {size[axis]} elements from {offset} on of axis "
                    f"{axis}, which has {shape[axis]}"
                )
                raise self.shape_error(problem, bottom)
            part.append(slice(offset, offset + size[axis]))
        self._part = tuple(part)
        top[0].reshape(tuple(s.stop - s.start for s in part))

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Copy the part."""
        self.ops.copy(bottom[0].data[self._part], top[0].data)

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """The gradient in its place, zeros around it; the second bottom's is zero."""
        if propagate_down[0]:
            self.ops.place(top[0].diff, self._part, bottom[0].diff)
        if propagate_down[1]:
            # Where memory is shared, other values may stand there.
            self.ops.clear(bottom[1].diff)

    def allow_force_backward(self, bottom_index: int) -> bool:
        """Only the data get a gradient."""
        return bottom_index == 0

    @classmethod
    def examples(cls) -> list[Example]:
        """No, one and several offsets; other axes; other sizes of the batch."""

        def crop(text: str, shape: Shape, size: Shape) -> Example:
            param = f"crop_param {{ {text} }}" if text else ""
            # Only the shape of the second bottom counts, as if it held labels.
            return Example(param, (shape, size), labels={1: 2})

        return [
            crop("", (2, 3, 6, 7), (2, 1, 4, 5)),
            crop("offset: 1", (2, 3, 6, 7), (2, 3, 4, 5)),
            crop("axis: 2 offset: 2 offset: 1", (2, 3, 6, 7), (2, 4, 4, 5)),
            crop("axis: 1 offset: 1 offset: 0 offset: 2", (2, 3, 6, 7), (2, 2, 6, 5)),
            crop("axis: -1 offset: 3", (2, 3, 6, 7), (2, 1, 1, 4)),
            crop("axis: 1 offset: 2", (3, 6), (3, 4)),
        ]
