"""Image files and arrays (H, W, K) as ``caffe.io`` gives and takes them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from poseidon_caffe.caffe.interpolation import spline, warp, zoom
from poseidon_caffe.caffe.value_errors import ArrayError, ImageFileError
from poseidon_caffe.types import Array

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["load_image", "oversample", "resize_image"]

_AXES = 3
_COLORS = 3
_CROPS = 5
_LUMA = (0.2125, 0.7154, 0.0721)  # ITU-R BT.709, which scikit-image weighs by
_WARPED = (0, 1, 3)  # orders that scikit-image interpolates itself


def load_image(filename: str | os.PathLike[str], color: bool = True) -> Array:  # noqa: FBT001, FBT002 - pycaffe's signature
    """An image file as numbers from 0 to 1.

    Caffe parity: what ``skimage.img_as_float(skimage.io.imread(...))`` gives with
    Pillow: 16 bits are divided by 65535, palettes resolved, transparency dropped,
    EXIF orientation ignored. Of an animation, the first picture.

    Args:
        filename: any format that Pillow reads.
        color: three channels always; else one, colours weighed by their luminance.

    Returns:
        float32 (H, W, 3) in the order red, green, blue, or (H, W, 1).

    Raises:
        ImageFileError: missing, unreadable or no image; an OSError too.
    """
    from PIL import Image

    path = Path(filename)
    try:
        with Image.open(path) as image:
            pixels = _unit(_pixels(image))
    except Image.DecompressionBombError as error:
        raise ImageFileError(f"{path}: too large to be meant ({error})") from error
    except FileNotFoundError as error:
        raise ImageFileError(f"{path}: no such image file") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        # Pillow's decoders report damage by any of these.
        raise ImageFileError(f"{path}: cannot be read as an image: {error}") from error
    if pixels.ndim == _AXES:
        pixels = pixels[:, :, :_COLORS]
        return (pixels if color else _gray(pixels)).astype(np.float32)
    gray = pixels.astype(np.float32)[:, :, np.newaxis]
    return np.tile(gray, (1, 1, _COLORS)) if color else gray


def _pixels(image: Image.Image) -> Array:
    """(H, W), (H, W, 3) or (H, W, 4) in the file's own depth."""
    if image.mode == "P":
        return np.asarray(image.convert(_palette_mode(image)))
    if image.mode == "1":
        return np.asarray(image.convert("L"))
    if image.mode in {"CMYK", "YCbCr", "LAB", "HSV", "RGBX"}:
        return np.asarray(image.convert("RGB"))
    if "A" in image.mode or image.mode in {"La", "RGBa"}:
        return np.asarray(image.convert("RGBA"))
    pixels = np.asarray(image)
    if image.mode == "I" and image.format == "PNG":
        return pixels.astype(np.uint16)  # Pillow's name for 16 bits in PNG
    return pixels


def _palette_mode(image: Image.Image) -> str:
    palette = np.asarray(image.getpalette("RGB"), np.int64).reshape(-1, _COLORS)
    first, last = image.getextrema()
    assert isinstance(first, (int, float))
    assert isinstance(last, (int, float))
    used = palette[int(first) : int(last) + 1]
    return "L" if not np.diff(used, axis=1).any() else "RGB"


def _unit(pixels: Array) -> Array:
    """Integers as float64: the largest of their type is 1; floats as they are."""
    kind = pixels.dtype.kind
    if kind == "f":
        return pixels.astype(np.float64)
    if kind == "b":
        return pixels.astype(np.float64)
    limits = np.iinfo(pixels.dtype)
    if kind == "u":
        return pixels / np.float64(limits.max)
    # Signed numbers go from -1 to 1, zero being a little above it.
    return (pixels + 0.5) / (limits.max + 0.5)


def _gray(pixels: Array) -> Array:
    luminance: Array = pixels @ np.array(_LUMA)
    return luminance[:, :, np.newaxis]


def resize_image(im: Array, new_dims: Sequence[int], interp_order: int = 1) -> Array:
    """An image in another size.

    Caffe parity: images of 1 or 3 channels go the way of ``skimage.transform.resize``
    of Caffe's days: pixel centres at half integers, no smoothing when it shrinks, and
    the darkest value of the image beyond its border, so that enlarging darkens the
    outermost pixels. Others go the way of ``scipy.ndimage.zoom``: the corners keep
    their values. Images of one value give that value.

    Args:
        im: (H, W, K).
        new_dims: height and width.
        interp_order: 0 nearest, 1 linear, 3 cubic; others up to 5, and 2 or more for
            channels that are not 1 or 3, need SciPy.

    Returns:
        float32 (height, width, K).

    Raises:
        ArrayError: not an image, or a size that is not positive; a ValueError too.
        PoseidonError: SciPy is needed and not installed.
    """
    image = np.asarray(im)
    size = _checked(image, new_dims)
    if not 0 <= interp_order <= 5:
        msg = f"interp_order must be 0 to 5, received {interp_order}"
        raise ArrayError(msg)
    if image.shape[2] not in (1, _COLORS):
        return zoom(image, size, interp_order).astype(np.float32)
    if image.dtype.kind != "f":
        image = image.astype(np.float64)  # differences of integers can overflow
    low, high = image.min(), image.max()
    if not high > low:
        return np.full((*size, image.shape[2]), low, np.float32)
    span = high - low
    unit = ((image - low) / span).astype(np.float64)
    resized = (warp if interp_order in _WARPED else spline)(unit, size, interp_order)
    out: Array = resized * span + low
    return out.astype(np.float32)


def _checked(image: Array, new_dims: Sequence[int]) -> tuple[int, int]:
    """``new_dims`` as integers, after a look at all shapes."""
    if image.ndim != _AXES or 0 in image.shape:
        msg = f"an image is an array (height, width, channels), not {image.shape}"
        raise ArrayError(msg)
    size = tuple(int(each) for each in new_dims)
    if len(size) != 2 or min(size) < 1:
        msg = f"an image cannot be resized to {size}: give (height, width)"
        raise ArrayError(msg)
    return size[0], size[1]


def oversample(images: Sequence[Array], crop_dims: Sequence[int]) -> Array:
    """Ten crops of each image: four corners and the centre, then these mirrored.

    Args:
        images: arrays (H, W, K) of one shape.
        crop_dims: height and width of a crop.

    Returns:
        float32 (10 * images, height, width, K); corners go top left, top right,
        bottom left, bottom right.

    Raises:
        ArrayError: no images, of several shapes, or smaller than the crop; a
            ValueError too.
    """
    height, width = (int(each) for each in crop_dims)
    shapes = {np.shape(image) for image in images}
    if len(shapes) != 1 or len(shape := next(iter(shapes))) != _AXES:
        msg = f"images must be arrays (H, W, K) of one shape, not {sorted(shapes)}"
        raise ArrayError(msg)
    down, right = shape[0] - height, shape[1] - width
    if min(down, right) < 0 or min(height, width) < 1:
        msg = f"crops of {height}x{width} do not fit into {shape[0]}x{shape[1]} pixels"
        raise ArrayError(msg)
    places = ((0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2))
    crops = np.empty((len(images), 2 * _CROPS, height, width, shape[2]), np.float32)
    for index, image in enumerate(images):
        for number, (top, left) in enumerate(places):
            crop: Any = image[top : top + height, left : left + width]
            crops[index, number] = crop
            crops[index, _CROPS + number] = crop[:, ::-1]
    return crops.reshape(-1, height, width, shape[2])
