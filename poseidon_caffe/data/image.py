"""Encoded images to arrays and back, as OpenCV does it for Caffe.

Arrays are uint8 (C, H, W) with colours in the order blue, green, red.
"""

from __future__ import annotations

import enum
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from poseidon_caffe.errors import DataError
from poseidon_caffe.types import Array

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["ColorMode", "decode_image", "encode_image", "read_image"]

_JPEG_QUALITY = 95  # OpenCV's default
_OPAQUE, _WITH_ALPHA = "RGB", "RGBA"
# ITU-R BT.601 luma in 1/32768, truncated: libpng's own conversion, which OpenCV
# asks for, to the bit.
_LUMA = np.array([9797, 19234, 3737], np.uint32)
_LUMA_BITS = 15
_FORMATS = {"jpg": "JPEG", "jpeg": "JPEG", "jpe": "JPEG", "tif": "TIFF", "dib": "BMP"}


class ColorMode(enum.Enum):
    """How many channels a decoded image gets."""

    NATIVE = "native"
    """What the file holds: 1, 3 or (with transparency) 4."""
    COLOR = "color"
    """Always 3."""
    GRAY = "gray"
    """Always 1."""


def decode_image(raw: bytes, mode: ColorMode = ColorMode.NATIVE) -> Array:
    """An encoded image (JPEG, PNG, BMP, ...) as an array.

    Args:
        raw: the file's bytes.
        mode: NATIVE keeps transparency and ignores EXIF orientation; the others do
            the opposite (OpenCV's IMREAD_UNCHANGED, IMREAD_COLOR, IMREAD_GRAYSCALE).

    Returns:
        uint8 (C, H, W), BGR or BGRA; perhaps a strided view.

    Raises:
        DataError: no image, a damaged one, or one of 16 bits or floats.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(raw)) as image:
            if mode is ColorMode.NATIVE:
                return _planes(_native(image))
            return _without_alpha(image, mode)
    except UnidentifiedImageError as error:
        raise DataError(
            f"{len(raw)} bytes that are no image which Pillow can read"
        ) from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        # Pillow's decoders report damage by any of these.
        raise DataError(f"a damaged image ({error})") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"an image too large to be meant ({error})") from error


def read_image(path: Path, mode: ColorMode = ColorMode.COLOR) -> Array:
    """The image in a file; see `decode_image`.

    Raises:
        DataError: naming the file.
    """
    try:
        raw = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: no name can be so
        why = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read ({why})") from error
    try:
        return decode_image(raw, mode)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def encode_image(image: Array, encoding: str) -> bytes:
    """Compress an array (C, H, W) in BGR order.

    Args:
        image: uint8 of 1 or 3 channels.
        encoding: a file name's extension without its dot: "png", "jpg", ...

    Raises:
        DataError: unknown encoding.
    """
    from PIL import Image

    name = encoding.lower()
    kind = _FORMATS.get(name, name.upper())
    plain = image[0] if image.shape[0] == 1 else image[::-1].transpose(1, 2, 0)
    buffer = io.BytesIO()
    try:
        picture = Image.fromarray(np.ascontiguousarray(plain))
        picture.save(buffer, kind, **_options(kind))
    except (KeyError, ValueError, OSError) as error:
        raise DataError(
            f'images cannot be encoded as "{encoding}"; try png or jpg'
        ) from error
    return buffer.getvalue()


def _options(kind: str) -> dict[str, Any]:
    return {"quality": _JPEG_QUALITY} if kind == "JPEG" else {}


def _native(image: Image.Image) -> Image.Image:
    """The image in a mode of 8-bit planes, transparency kept."""
    _refuse_deep(image)
    if image.mode in {"L", _OPAQUE, _WITH_ALPHA}:
        return image
    if image.mode == "1":
        return image.convert("L")
    transparent = image.mode in {"LA", "PA", "La"} or "transparency" in image.info
    return image.convert(_WITH_ALPHA if transparent else _OPAQUE)


def _without_alpha(image: Image.Image, mode: ColorMode) -> Array:
    """One or three planes, turned upright."""
    if mode is ColorMode.GRAY and image.format == "JPEG":
        # Takes the luma that the file stores, as OpenCV does.
        image.draft("L", None)
    _refuse_deep(image)
    upright = _upright(image)
    if mode is ColorMode.COLOR:
        return _planes(_converted(upright, _OPAQUE))
    if upright.mode in {"L", "1", "LA", "La"}:
        return _planes(_converted(upright, "L"))
    color = np.asarray(_converted(upright, _OPAQUE)).astype(np.uint32)
    return ((color @ _LUMA) >> _LUMA_BITS).astype(np.uint8)[np.newaxis]


def _upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF orientation says."""
    from PIL import ImageOps

    # exif_transpose copies even what needs no turning.
    return ImageOps.exif_transpose(image) if "exif" in image.info else image


def _converted(image: Image.Image, mode: str) -> Image.Image:
    return image if image.mode == mode else image.convert(mode)


def _refuse_deep(image: Image.Image) -> None:
    if image.mode.startswith(("I", "F")):
        raise DataError(
            f"an image of more than 8 bits per channel (Pillow's mode {image.mode}); "
            "convert it to 8 bits"
        )


def _planes(image: Image.Image) -> Array:
    """(C, H, W) view with red and blue exchanged."""
    pixels = np.asarray(image)
    if pixels.ndim == 2:
        return pixels[np.newaxis]
    planes = pixels.transpose(2, 0, 1)
    if planes.shape[0] == 3:
        return planes[::-1]
    return planes[[2, 1, 0, 3]]
