"""How kernels that normalise by moments are started."""

from __future__ import annotations

from typing import NamedTuple

from poseidon_caffe.backend.gpu.device import Argument
from poseidon_caffe.backend.gpu.launcher import THREADS, WARP, Launcher
from poseidon_caffe.backend.gpu.planes import Planes
from poseidon_caffe.types import Array

__all__ = ["Field"]

_WARPS = THREADS // WARP
_CHUNK, _AT_ONCE = 512, 8  # as in moments.cu
#: Blocks that fill a GPU where each adds up, and where each only maps.
_SUMMING, _MAPPING = 1024, 8192


class Field(NamedTuple):
    """Memory (batch, rows, groups, inner): each group of a batch has one mean.

    Attributes:
        batch: 1 unless inner is 1.
        rows: how often a group comes.
        groups: of a batch.
        inner: neighbours of one group.
    """

    batch: int
    rows: int
    groups: int
    inner: int

    @classmethod
    def of_channels(cls, planes: Planes) -> Field:
        """One group a channel, over the whole batch."""
        return cls(1, planes.outer, planes.classes, planes.inner)

    @classmethod
    def of_images(cls, planes: Planes, images: int, *, by_channel: bool) -> Field:
        """One group an image, or one for each of its channels."""
        channels, inner = planes.classes, planes.inner
        if not by_channel:
            count = planes.outer * channels * inner
            return cls(1, 1, images, count // images)
        if inner > 1:
            return cls(1, 1, images * channels, inner)
        return cls(images, planes.outer // images, channels, 1)

    @property
    def all_groups(self) -> int:
        """Groups of all batches."""
        return self.batch * self.groups

    @property
    def members(self) -> int:
        """Elements of a group."""
        return self.rows * self.inner

    def slots(self, wanted: int = _SUMMING) -> int:
        """Blocks that share a group's rows."""
        of_a_warp = _CHUNK if self.inner > 1 else _AT_ONCE
        shares = -(-self.members // (of_a_warp * _WARPS))
        return max(1, min(shares, wanted // self._blocks()))

    def _blocks(self) -> int:
        if self.inner > 1:
            return self.groups
        return self.batch * -(-self.groups // WARP)

    def run(
        self,
        kernels: Launcher,
        kernel: str,
        array: Array,
        slots: int | None,
        *arguments: Argument,
    ) -> None:
        """Run a kernel that has two forms; ``slots`` None: as many as a map wants."""
        form = "planes" if self.inner > 1 else "columns"
        shared = self.slots(_MAPPING) if slots is None else slots
        kernels.blocks(
            f"{kernel}_{form}", array.dtype, self._blocks() * shared, *arguments,
            self.rows, self.groups, self.inner, shared,
        )  # fmt: skip

    def finish(
        self, kernels: Launcher, kernel: str, array: Array, *arguments: Argument
    ) -> None:
        """Run a kernel in which a warp works on a group."""
        blocks = -(-self.all_groups // _WARPS)
        kernels.blocks(kernel, array.dtype, blocks, *arguments)
