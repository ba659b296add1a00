"""How kernels that run along the classes of places are started."""

from __future__ import annotations

import math
from typing import NamedTuple

from poseidon_caffe.backend.gpu.device import Argument
from poseidon_caffe.backend.gpu.launcher import GRID_BLOCKS, THREADS, WARP
from poseidon_caffe.backend.gpu.loss_results import MOST_BLOCKS, GpuLossResults
from poseidon_caffe.backend.gpu.planes import Planes
from poseidon_caffe.backend.protocols import Sums
from poseidon_caffe.errors import ShapeError
from poseidon_caffe.types import Array

__all__ = ["GpuClasses", "check_label_count", "ignoring"]

_FEW_CLASSES = 256
_MANY_CLASSES = 8192
_MANY_THREADS = 1024


class _Form(NamedTuple):
    """Which form of a kernel of ``classes.cu``, and its grid."""

    suffix: str
    blocks: int
    threads: int


#: Kernels that have a form for a block a place.
_WITH_BLOCKS = {
    "softmax", "softmax_backward", "softmax_loss_backward", "count_hits",
}  # fmt: skip


def _form(kernel: str, planes: Planes) -> _Form:
    places, classes = planes.places, planes.classes
    if planes.inner > 1:
        # No more warps than classes, and a power of two of them.
        warps = min(THREADS // WARP, 1 << (max(classes, 1).bit_length() - 1))
        return _Form("tile", -(-places // WARP), WARP * warps)
    if classes <= _FEW_CLASSES or kernel not in _WITH_BLOCKS:
        return _Form("warp", -(-places * WARP // THREADS), THREADS)
    threads = _MANY_THREADS if classes >= _MANY_CLASSES else THREADS
    return _Form("block", places, threads)


class GpuClasses(GpuLossResults):
    """Base of the families whose kernels are in ``classes.cu``."""

    def along_classes(self, kernel: str, planes: Planes, *arguments: Argument) -> None:
        """Run a kernel over all places; it gets their numbers last."""
        form = _form(kernel, planes)
        array = (planes.reads or planes.writes)[0]
        self.kernels("classes").blocks(
            f"{kernel}_{form.suffix}", array.dtype,
            min(form.blocks, GRID_BLOCKS), *arguments,
            planes.places, planes.classes, planes.inner, threads=form.threads,
        )  # fmt: skip

    def sum_classes(
        self,
        kernel: str,
        planes: Planes,
        sums: Sums,
        before: tuple[Argument, ...],
        after: tuple[Argument, ...] = (),
    ) -> None:
        """The same for a kernel that adds up, ``sums`` between its arguments."""
        form, array = _form(kernel, planes), planes.reads[0]

        def launch(blocks: int, parts: Array) -> None:
            self.kernels("classes").blocks(
                f"{kernel}_{form.suffix}", array.dtype, blocks, *before, parts,
                *after, planes.places, planes.classes, planes.inner,
                threads=form.threads,
            )  # fmt: skip

        blocks = form.blocks if planes.classes else 0
        self.add_up(sums, min(blocks, MOST_BLOCKS), launch)


def ignoring(ignore_label: int | None) -> tuple[int, float]:
    """What kernels are told of a label that does not count."""
    return int(ignore_label is not None), float(ignore_label or 0)


def check_label_count(prob: Array, label: Array, axis: int) -> None:
    """Raise ShapeError unless there is one label for each place."""
    if label.size != math.prod(prob.shape) // max(prob.shape[axis], 1):
        raise ShapeError(
            f"predictions of shape {prob.shape} with classes on axis {axis} need one "
            f"label for each place, not labels of shape {label.shape}"
        )
