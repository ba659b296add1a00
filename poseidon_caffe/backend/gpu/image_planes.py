"""Arrays (N, C, *spatial) as kernels and products address them: by three steps."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from poseidon_caffe.backend.gpu.base import GpuFamily
from poseidon_caffe.types import Array, Shape

__all__ = ["GpuImagePlanes", "ImagePlanes", "joined_step"]


@dataclass(frozen=True)
class ImagePlanes:
    """An array whose spatial axes follow each other in memory without gaps.

    Element (n, c, p), p counting the places of a plane in C order, lies at
    ``n * steps[0] + c * steps[1] + p * steps[2]``.  Either the places of a plane or
    the channels of a place are neighbours; images, channels or places may have gaps.

    Attributes:
        array: (N, C, *spatial) with its own strides.
        images, channels, places: how many.
        steps: elements from one to the next of each.
    """

    array: Array
    images: int
    channels: int
    places: int
    steps: Shape

    @classmethod
    def of(cls, array: Array) -> ImagePlanes | None:
        """How ``array`` lies; None if three steps cannot say it."""
        images, channels = array.shape[:2]
        places = math.prod(array.shape[2:])
        n, c, *spatial = (step // array.itemsize for step in array.strides)
        p = joined_step(array.shape[2:], tuple(spatial))
        if p is None:
            return None
        if channels == 1:
            c = places if p in {0, 1} else 1
        if not p:  # One place: it counts as the step that joins up the images.
            p = (n if images > 1 else max(channels, 1)) if c == 1 else 1
        if images <= 1:
            n = places * p
        if 1 not in {c, p}:
            return None
        return cls(array, images, channels, places, (n, c, p))

    @property
    def channels_last(self) -> bool:
        """Whether the channels of a place are neighbours."""
        return self.steps[1] == 1 and (self.steps[2] != 1 or self.places == 1)

    @property
    def joined(self) -> bool:
        """Whether image follows image as place follows place."""
        return self.images <= 1 or self.steps[0] == self.places * self.steps[2]

    def part(self, first: int, count: int) -> ImagePlanes:
        """Some of the images."""
        if count == self.images:
            return self
        n, c, p = self.steps
        return ImagePlanes(
            self.array[first : first + count], count, self.channels, self.places,
            (self.places * p if count == 1 else n, c, p),
        )  # fmt: skip

    def at(self, image: int, channel: int) -> Array:
        """The array from an image and a channel on."""
        return self.array[image:, channel:]


class GpuImagePlanes(GpuFamily):
    """Arrays of any strides as planes: those that lie otherwise are copied."""

    def image_planes(self, name: str, array: Array) -> ImagePlanes:
        """An array to read from.

        Args:
            name: of the scratch memory that a copy takes.
            array: (N, C, *spatial), any strides.
        """
        found = ImagePlanes.of(array)
        if found is not None:
            return found
        twin = self.scratch.take(f"planes {name}", array.shape, array.dtype)
        self.copy(array, twin)
        return _plain(twin)

    @contextmanager
    def written_image_planes(self, name: str, array: Array) -> Iterator[ImagePlanes]:
        """An array to write all elements of: it has them afterwards."""
        found = ImagePlanes.of(array)
        if found is not None:
            yield found
            return
        twin = self.scratch.take(f"planes {name}", array.shape, array.dtype)
        yield _plain(twin)
        self.copy(twin, array)

    def joined_image_planes(self, name: str, planes: ImagePlanes) -> ImagePlanes:
        """The same elements with image following image, for one product of all."""
        if planes.joined:
            return planes
        n, c, p = planes.images, planes.channels, planes.places
        dtype: np.dtype = planes.array.dtype
        memory = self.scratch.take(f"joined {name}", (c, n, p), dtype)
        twin = memory.transpose((1, 0, 2))
        self.copy(planes.array.reshape((n, c, p)), twin)
        return ImagePlanes(twin, n, c, p, (p, n * p, 1))


def joined_step(lengths: Shape, strides: Shape) -> int | None:
    """The step of axes seen as one: None if they have gaps, 0 for a single place."""
    axes = [(n, s) for n, s in zip(lengths, strides, strict=True) if n > 1]
    for (_, outer), (length, inner) in pairwise(axes):
        if outer != length * inner:
            return None
    return axes[-1][1] if axes else 0


def _plain(array: Array) -> ImagePlanes:
    found = ImagePlanes.of(array)
    assert found is not None
    return found
