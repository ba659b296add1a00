"""Errors that are a ValueError, or an AssertionError, as well as a PoseidonError.

pycaffe's helpers raise Python's own exceptions, and scripts catch them.
"""

from __future__ import annotations

from poseidon_caffe.errors import DataError, ParseError, ShapeError, UsageError

__all__ = [
    "ArrayError",
    "BlobProtoError",
    "CropError",
    "ImageFileError",
    "LayerValueError",
    "ValuesError",
]


class ArrayError(ShapeError, ValueError):
    """An array given by the script has a shape that does not fit."""


class BlobProtoError(ParseError, ValueError):
    """A BlobProto's values do not fit its shape, or it has none."""


class ValuesError(DataError, ValueError):
    """A message does not hold the values that are asked for."""


class ImageFileError(DataError, OSError):
    """An image file is missing or no image; also an OSError, as skimage's."""


class LayerValueError(UsageError, ValueError):
    """A layer's message has not what is asked of it."""


class CropError(UsageError, AssertionError):
    """Two blobs cannot be cropped to each other; pycaffe asserts this."""
