"""Blobs as pycaffe shows them: live, writable NumPy views of a net's memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn, overload

import numpy as np

from poseidon_caffe.backend import blob as core
from poseidon_caffe.backend.memory import HOST
from poseidon_caffe.backend.protocols import Memory
from poseidon_caffe.errors import BackendError, ShapeError
from poseidon_caffe.types import Array, Shape

__all__ = ["Blob", "BlobVec"]

_LEGACY_AXES = 4


class Blob:
    """A named array of a net with its gradient.

    ``data`` and ``diff`` are views: what is written into them is what the net
    computes with, and what it computes shows in views taken before.  A view lasts
    until the blob grows by `reshape`.

    On a GPU they are copies on the host, as in Caffe: fetched when they are asked for,
    and brought back before the net computes again; ask again after the net has run.
    ``gpu_data`` and ``gpu_diff`` are CuPy arrays of the GPU's own memory.

    Caffe: activations may be stored channels-last, so a view of four axes need not
    be C-contiguous; ``view.reshape(...)`` may then be a copy.  Write through
    ``view[...]`` or ``view.flat``.
    """

    __slots__ = ("_core",)

    def __init__(self, blob: core.Blob) -> None:
        self._core = blob

    @property
    def data(self) -> Array:
        """The values, shape ``shape``, usually float32."""
        # From now on the values may change without the library's knowing.
        self._core.exposed = True
        return self._core.mutable_cpu_data

    @data.setter
    def data(self, value: Any) -> NoReturn:
        raise AttributeError(_assign_hint("data"))

    @property
    def diff(self) -> Array:
        """The gradient, of the same shape."""
        return self._core.mutable_cpu_diff

    @diff.setter
    def diff(self, value: Any) -> NoReturn:
        raise AttributeError(_assign_hint("diff"))

    @property
    def gpu_data(self) -> Any:
        """The values as a CuPy array of shape ``shape``, of a net on a GPU.

        Raises:
            BackendError: the net is on the CPU.
        """
        self._check_gpu("gpu_data")
        self._core.exposed = True
        return self._core.data

    @property
    def gpu_diff(self) -> Any:
        """The gradient as a CuPy array, of a net on a GPU.

        Raises:
            BackendError: the net is on the CPU.
        """
        self._check_gpu("gpu_diff")
        return self._core.diff

    def _check_gpu(self, member: str) -> None:
        if self._core.memory.is_host:
            wanted = member.replace("gpu_", "")
            raise BackendError(
                f"{member}: this net is on the CPU; use .{wanted}, or open the net "
                "after caffe.set_mode_gpu()"
            )

    @property
    def shape(self) -> Shape:
        """Axis lengths, Caffe's order (N, C, H, W)."""
        return self._core.shape

    @property
    def count(self) -> int:
        """Number of elements."""
        return self._core.count

    @property
    def num(self) -> int:
        """Length of axis 0 (1 if there is none), for blobs of at most 4 axes."""
        return self._legacy(0)

    @property
    def channels(self) -> int:
        """Length of axis 1 (1 if there is none)."""
        return self._legacy(1)

    @property
    def height(self) -> int:
        """Length of axis 2 (1 if there is none)."""
        return self._legacy(2)

    @property
    def width(self) -> int:
        """Length of axis 3 (1 if there is none)."""
        return self._legacy(3)

    def reshape(self, *shape: int) -> None:
        """Take a new shape: ``blob.reshape(1, 3, 224, 224)``.

        The layers above follow at the next ``net.forward()`` or ``net.reshape()``.

        Raises:
            ShapeError: an axis is negative.
            TypeError: an axis is no number, as when the shape comes as one tuple.
        """
        try:
            axes = tuple(int(n) for n in shape)
        except TypeError as error:
            given = ", ".join(map(repr, shape))
            msg = f"reshape({given}): give one number for each axis, reshape(*shape)"
            raise TypeError(msg) from error
        self._core.reshape(axes)

    def _legacy(self, axis: int) -> int:
        shape = self._core.shape
        if len(shape) > _LEGACY_AXES:
            msg = (
                f"num, channels, height and width exist for blobs of at most "
                f"{_LEGACY_AXES} axes, not for shape {shape}; use blob.shape"
            )
            raise ShapeError(msg)
        return shape[axis] if axis < len(shape) else 1

    def __repr__(self) -> str:
        return f"<Blob {'x'.join(map(str, self.shape)) or 'scalar'}>"


class BlobVec(Sequence[Blob]):
    """The parameter blobs of one layer: weights first, then the bias.

    Args:
        blobs: the layer's own list; what is shared into it later shows here.
        dtype: of the blobs that `add_blob` makes.
    """

    __slots__ = ("_blobs", "_dtype", "_memory")

    def __init__(
        self,
        blobs: list[core.Blob],
        dtype: type = np.float32,
        memory: Memory = HOST,
    ) -> None:
        self._blobs = blobs
        self._dtype = dtype
        self._memory = memory

    def add_blob(self, *shape: int) -> None:
        """Add a parameter of zeros: ``self.blobs.add_blob(10, 3)`` in a setup."""
        sizes = tuple(int(n) for n in shape)
        if any(n < 0 for n in sizes):
            raise ShapeError(f"add_blob{sizes}: axes must not be negative")
        self._blobs.append(core.Blob(sizes, dtype=self._dtype, memory=self._memory))

    @overload
    def __getitem__(self, index: int) -> Blob: ...
    @overload
    def __getitem__(self, index: slice) -> list[Blob]: ...
    def __getitem__(self, index: int | slice) -> Blob | list[Blob]:
        if isinstance(index, slice):
            return [Blob(blob) for blob in self._blobs[index]]
        return Blob(self._blobs[index])

    def __len__(self) -> int:
        return len(self._blobs)

    def __repr__(self) -> str:
        return f"<BlobVec {list(self)}>"


def _assign_hint(name: str) -> str:
    return (
        f"blob.{name} is a view of the net's memory and cannot be replaced; "
        f"write into it: blob.{name}[...] = value"
    )
