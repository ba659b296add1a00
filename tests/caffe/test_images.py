from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from poseidon_caffe import caffe
from poseidon_caffe.caffe.interpolation import warp
from poseidon_caffe.errors import DataError, PoseidonError

RNG = np.random.default_rng(7)
COLOR = RNG.integers(0, 256, (5, 4, 3)).astype(np.uint8)
GRAY = RNG.integers(0, 256, (5, 4)).astype(np.uint8)
DEEP = RNG.integers(0, 65536, (5, 4)).astype(np.uint16)


@pytest.fixture
def load(tmp_path):
    def load(image, color=True, name="image.png", **options):
        path = tmp_path / name
        image.save(path, **options)
        loaded = caffe.io.load_image(str(path), color)
        assert loaded.dtype == np.float32
        return loaded

    return load


def _luminance(rgb):
    return (rgb / 255 @ np.array([0.2125, 0.7154, 0.0721]))[..., np.newaxis]


def test_color(load):
    image = Image.fromarray(COLOR)
    np.testing.assert_allclose(load(image), COLOR / 255, rtol=1e-6)
    np.testing.assert_allclose(load(image, color=False), _luminance(COLOR), rtol=1e-5)
    assert load(image, color=False).shape == (5, 4, 1)


@pytest.mark.parametrize("color", [True, False])
def test_gray(load, color):
    channels = 3 if color else 1
    expected = np.repeat(GRAY[..., np.newaxis], channels, axis=2) / 255
    np.testing.assert_allclose(load(Image.fromarray(GRAY), color), expected, rtol=1e-6)
    black = Image.fromarray(GRAY > 99)
    assert set(np.unique(load(black, color))) == {0, 1}
    expected = np.repeat(DEEP[..., np.newaxis], channels, axis=2) / 65535
    for name in ("deep.png", "deep.tif"):
        deep = load(Image.fromarray(DEEP), color, name)
        np.testing.assert_allclose(deep, expected, rtol=1e-6)


def test_transparency_is_dropped(load):
    alpha = np.full((5, 4, 1), 9, np.uint8)
    image = Image.fromarray(np.concatenate([COLOR, alpha], axis=2))
    np.testing.assert_allclose(load(image), COLOR / 255, rtol=1e-6)
    pair = Image.fromarray(GRAY).convert("LA")
    np.testing.assert_allclose(
        load(pair), np.repeat(GRAY[..., np.newaxis], 3, axis=2) / 255, rtol=1e-6
    )


def test_palettes(load):
    image = Image.fromarray(COLOR).quantize(8)
    expected = np.asarray(image.convert("RGB")) / 255
    np.testing.assert_allclose(load(image), expected, rtol=1e-6)
    np.testing.assert_allclose(load(image, name="image.gif"), expected, rtol=1e-6)
    grays = Image.fromarray(GRAY).quantize(8)
    expected = np.asarray(grays.convert("L"))[..., np.newaxis] / 255
    np.testing.assert_allclose(load(grays, color=False), expected, rtol=1e-6)


def test_other_modes(load):
    image = Image.fromarray(COLOR).convert("CMYK")
    expected = np.asarray(image.convert("RGB")) / 255
    np.testing.assert_allclose(load(image, name="image.tif"), expected, rtol=1e-6)
    values = RNG.standard_normal((5, 4)).astype(np.float32)
    floats = load(Image.fromarray(values), color=False, name="image.tif")
    np.testing.assert_array_equal(floats[..., 0], values)


def test_orientation_is_ignored(load):
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    assert load(Image.fromarray(COLOR), exif=exif).shape == (5, 4, 3)


def test_real_photographs(golden):
    for path in sorted((golden / "data" / "images").iterdir()):
        with Image.open(path) as image:
            expected = np.asarray(image.convert("RGB"), np.float32) / 255
        np.testing.assert_allclose(caffe.io.load_image(path), expected, atol=1e-6)


def test_no_image(tmp_path):
    with pytest.raises(OSError, match="no such image") as caught:
        caffe.io.load_image(tmp_path / "none.png")
    assert isinstance(caught.value, DataError)
    (tmp_path / "text.png").write_text("no image")
    Image.fromarray(COLOR.repeat(50, axis=0)).save(tmp_path / "cut.png")
    whole = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    for name in ("text.png", "cut.png", "."):
        with pytest.raises(DataError, match=name if name != "." else "cannot be read"):
            caffe.io.load_image(str(tmp_path / name))


# -- resizing ------------------------------------------------------------------------


def test_resizing_brings_values_into_0_to_1_and_back():
    image = (RNG.standard_normal((6, 5, 3)) * 50 - 20).astype(np.float32)
    low, high = image.min(), image.max()
    expected = warp((image - low) / (high - low), (9, 4), 1) * (high - low) + low
    resized = caffe.io.resize_image(image, (9, 4))
    assert resized.dtype == np.float32
    np.testing.assert_allclose(resized, expected, atol=1e-4)
    # Beyond the border lies the darkest value.
    wide = caffe.io.resize_image(np.array([[[1.0], [3.0]]]), (1, 4))
    np.testing.assert_allclose(wide[0, :, 0], [1.0, 1.5, 2.5, 2.5])


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@pytest.mark.parametrize("order", [0, 1])
def test_resizing_to_the_same_size(channels, order):
    image = RNG.random((6, 5, channels)).astype(np.float32)
    np.testing.assert_allclose(
        caffe.io.resize_image(image, np.array([6, 5]), order), image, atol=1e-6
    )


def test_resizing_other_channels_keeps_corners():
    image = RNG.random((6, 5, 2)).astype(np.float32)
    resized = caffe.io.resize_image(image, (11, 9))
    np.testing.assert_allclose(resized[::2, ::2], image, atol=1e-6)


def test_resizing_constants_and_bytes():
    flat = np.full((6, 5, 3), 7, np.uint8)
    resized = caffe.io.resize_image(flat, (2, 3))
    assert resized.dtype == np.float32
    assert (resized == 7).all()
    signed = flat.astype(np.int8)
    signed[1] = -120
    signed[4] = 120
    halved = caffe.io.resize_image(signed, (2, 5))
    np.testing.assert_allclose(halved[:, 2, 0], [-120, 120], rtol=1e-6)


@pytest.mark.parametrize(
    ("shape", "size", "order"),
    [
        ((6, 5), (3, 3), 1),
        ((6, 0, 3), (3, 3), 1),
        ((6, 5, 3), (3, 0), 1),
        ((6, 5, 3), (3, 3, 3), 1),
        ((6, 5, 3), (3, 3), 6),
    ],
)
def test_what_cannot_be_resized(shape, size, order):
    with pytest.raises(ValueError, match=r"image|interp_order") as caught:
        caffe.io.resize_image(np.zeros(shape), size, order)
    assert isinstance(caught.value, PoseidonError)


# -- crops ---------------------------------------------------------------------------


def test_oversample():
    images = RNG.random((2, 7, 8, 3))
    crops = caffe.io.oversample(images, (4, 3))
    assert crops.shape == (20, 4, 3, 3)
    assert crops.dtype == np.float32
    corners = [(0, 0), (0, 5), (3, 0), (3, 5), (1, 2)]
    for index, (row, column) in enumerate(corners):
        expected = images[1, row : row + 4, column : column + 3].astype(np.float32)
        np.testing.assert_array_equal(crops[10 + index], expected)
        np.testing.assert_array_equal(crops[15 + index], expected[:, ::-1])


def test_what_cannot_be_cropped():
    with pytest.raises(ValueError, match="do not fit into 4x5"):
        caffe.io.oversample([np.zeros((4, 5, 3))], (5, 5))
    with pytest.raises(ValueError, match="of one shape"):
        caffe.io.oversample([np.zeros((4, 5, 3)), np.zeros((5, 5, 3))], (2, 2))
    with pytest.raises(PoseidonError, match="of one shape"):
        caffe.io.oversample([], (2, 2))
