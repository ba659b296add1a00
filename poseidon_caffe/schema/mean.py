"""Mean images, ``.binaryproto``: one BlobProto of shape (1, C, H, W)."""

from __future__ import annotations

import os

import numpy as np

from poseidon_caffe.errors import ParseError
from poseidon_caffe.schema import messages
from poseidon_caffe.schema.binary import read_binary, write_binary
from poseidon_caffe.schema.files import StrPath
from poseidon_caffe.schema.wire import blob_to_array
from poseidon_caffe.types import Array

__all__ = ["read_mean", "write_mean"]

_AXES = 3


def read_mean(path: StrPath) -> Array:
    """Mean image of a .binaryproto file, float32 (C, H, W).

    Raises:
        ParseError: the file is missing, damaged or holds no single image.
    """
    name = os.fspath(path)
    blob = read_binary(path, messages.BlobProto)
    try:
        mean = blob_to_array(blob).astype(np.float32, copy=False)
    except ParseError as error:
        raise ParseError(f"{name}: {error}", path=name) from error
    if mean.ndim == _AXES + 1 and mean.shape[0] == 1:
        mean = mean[0]
    if mean.ndim != _AXES:
        raise ParseError(
            f"{name}: a mean image has shape (1, C, H, W), this blob {mean.shape}",
            path=name,
        )
    return mean


def write_mean(path: StrPath, mean: Array) -> None:
    """Writes a mean image (C, H, W) as ``compute_image_mean`` does.

    Caffe: the shape is written as the old four numbers, which all readers know.

    Raises:
        SnapshotError: the disk refused.
        ValueError: the array has not three axes.
    """
    if mean.ndim != _AXES:
        raise ValueError(f"a mean image has shape (C, H, W), this array {mean.shape}")
    channels, height, width = mean.shape
    blob = messages.BlobProto(num=1, channels=channels, height=height, width=width)
    blob.data.extend(np.asarray(mean, dtype=np.float32).reshape(-1).tolist())
    write_binary(path, blob)
