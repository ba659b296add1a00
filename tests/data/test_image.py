from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from poseidon_caffe.data.image import ColorMode, decode_image, encode_image, read_image
from poseidon_caffe.errors import DataError

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def encoded(picture, kind="PNG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def two_by_three():
    picture = Image.new("RGB", (3, 2))
    for place, color in {(0, 0): RED, (2, 0): GREEN, (1, 1): BLUE}.items():
        picture.putpixel(place, color)
    return picture


def test_planes_are_blue_green_red():
    image = decode_image(encoded(two_by_three()), ColorMode.COLOR)
    assert image.shape == (3, 2, 3)
    assert image.dtype == np.uint8
    assert image[:, 0, 0].tolist() == [0, 0, 255]
    assert image[:, 0, 2].tolist() == [0, 255, 0]
    assert image[:, 1, 1].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    ("mode", "native"),
    [("RGB", 3), ("L", 1), ("1", 1), ("P", 3), ("RGBA", 4), ("LA", 4)],
)
def test_channels(mode, native):
    raw = encoded(two_by_three().convert(mode))
    assert decode_image(raw).shape == (native, 2, 3)
    assert decode_image(raw, ColorMode.COLOR).shape == (3, 2, 3)
    assert decode_image(raw, ColorMode.GRAY).shape == (1, 2, 3)


def test_transparency_comes_last():
    picture = Image.new("RGBA", (1, 1), (10, 20, 30, 40))
    assert decode_image(encoded(picture)).reshape(-1).tolist() == [30, 20, 10, 40]
    color = decode_image(encoded(picture), ColorMode.COLOR)
    assert color.reshape(-1).tolist() == [30, 20, 10]


def test_gray_of_png_is_libpngs():
    picture = Image.new("RGB", (3, 1))
    for x, color in enumerate((RED, GREEN, BLUE)):
        picture.putpixel((x, 0), color)
    gray = decode_image(encoded(picture), ColorMode.GRAY)
    assert gray.reshape(-1).tolist() == [76, 149, 29]


def test_gray_of_jpeg_is_the_stored_luma():
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    raw = encoded(Image.fromarray(noise), "JPEG", quality=95)
    with Image.open(io.BytesIO(raw)) as image:
        image.draft("L", None)
        luma = np.asarray(image)
    assert np.array_equal(decode_image(raw, ColorMode.GRAY)[0], luma)


def test_orientation_counts_except_in_native_mode():
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    raw = encoded(two_by_three(), "JPEG", exif=exif)
    assert decode_image(raw).shape == (3, 2, 3)
    assert decode_image(raw, ColorMode.COLOR).shape == (3, 3, 2)
    assert decode_image(raw, ColorMode.GRAY).shape == (1, 3, 2)


@pytest.mark.parametrize("mode", ColorMode)
def test_deep_images_are_refused(mode):
    picture = Image.fromarray(np.full((2, 2), 3000, np.uint16))
    with pytest.raises(DataError, match="more than 8 bits"):
        decode_image(encoded(picture), mode)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_damaged_images(kind):
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    raw = encoded(Image.fromarray(noise), kind)
    with pytest.raises(DataError, match=r"damaged|no image"):
        decode_image(raw[: len(raw) // 2])
    with pytest.raises(DataError, match="no image"):
        decode_image(b"not at all")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("encoding", "error"), [("png", 0), ("bmp", 0), ("jpg", 25)])
def test_encoding_and_back(channels, encoding, error):
    ramp = np.add.outer(np.arange(24), np.arange(30)) * 4
    image = np.stack([ramp + 10 * c for c in range(channels)]).astype(np.uint8)
    back = decode_image(encode_image(image, encoding))
    assert back.shape == image.shape
    assert np.abs(back.astype(int) - image).max() <= error


def test_unknown_encoding():
    with pytest.raises(DataError, match='"docx"; try png or jpg'):
        encode_image(np.zeros((3, 2, 2), np.uint8), "docx")


def test_files(tmp_path):
    path = tmp_path / "a.png"
    with pytest.raises(DataError, match=r"a\.png: cannot be read"):
        read_image(path)
    path.write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"a\.png: 7 bytes that are no image"):
        read_image(path)
    path.write_bytes(encoded(two_by_three().convert("L")))
    assert read_image(path).shape == (3, 2, 3)
