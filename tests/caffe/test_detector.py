from __future__ import annotations

import sys
import types

import numpy as np
import pytest

from poseidon_caffe import caffe
from poseidon_caffe.errors import PoseidonError, UsageError

NET = """
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 2 dim: 3 dim: 12 dim: 12 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param {
  num_output: 4 weight_filler { type: "gaussian" std: 0.1 } } }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }
"""
MEAN = np.array([100.0, 110.0, 120.0])


@pytest.fixture
def files(tmp_path):
    model, weights = tmp_path / "deploy.prototxt", tmp_path / "net.caffemodel"
    model.write_text(NET)
    caffe.set_random_seed(12)
    caffe.Net(str(model), caffe.TEST).save(str(weights))
    return str(model), str(weights)


@pytest.fixture
def photos(golden):
    return [str(path) for path in sorted((golden / "data" / "images").iterdir())[:2]]


def _detector(files, **options):
    return caffe.Detector(
        *files, mean=MEAN, raw_scale=255, channel_swap=(2, 1, 0), **options
    )


def test_windows_are_cut_and_warped(files, photos):
    net = _detector(files)
    windows = [(1, 2, 9, 14), [0, 0, 12, 12], np.array([3, 4, 16, 9])]
    # Any iterable will do, gone through once.
    found = net.detect_windows(zip(photos, [windows[:2], windows[2:]], strict=True))
    assert [each["filename"] for each in found] == [photos[0], photos[0], photos[1]]
    plain = caffe.Net(files[0], caffe.TEST, weights=files[1])
    for each, (top, left, bottom, right) in zip(found, windows, strict=True):
        image = caffe.io.load_image(each["filename"])[top:bottom, left:right]
        image = caffe.io.resize_image(image, (12, 12))
        plain.blobs["data"].data[...] = (image[..., ::-1] * 255 - MEAN).transpose(
            2, 0, 1
        )
        expected = plain.forward()["prob"][0]
        np.testing.assert_allclose(each["prediction"], expected, atol=1e-5)
        np.testing.assert_array_equal(each["window"], (top, left, bottom, right))
    assert net.detect_windows([]) == []


def test_context_inside_the_image(files):
    """A window of 6x6 with 3 of 12 pixels of context each side: 12x12 of the image."""
    net = _detector(files, context_pad=3)
    image = np.random.default_rng(1).random((40, 40, 3)).astype(np.float32)
    crop = net.crop(image, (15, 16, 20, 21))
    assert crop.shape == (12, 12, 3)
    # Centre 18, 19; half sides 3 become 6; ends are rounded: rows 12 to 24.
    expected = caffe.io.resize_image(image[12:24, 13:25], (12, 12))
    np.testing.assert_allclose(crop, expected, atol=1e-6)


def test_context_beyond_the_image_is_the_mean(files):
    net = _detector(files, context_pad=3)
    image = np.ones((40, 40, 3), np.float32)
    crop = net.crop(image, (0, 16, 5, 21))
    mean = MEAN[::-1] / 255  # the image's own order and range
    # Rows -3 to 9 are asked for, 13 in all: the first 3 are not there.
    np.testing.assert_allclose(crop[:3], np.broadcast_to(mean, (3, 12, 3)), rtol=1e-6)
    assert (crop[3:11, :11] == 1).all()
    out = net.transformer.preprocess("data", crop)
    np.testing.assert_allclose(out[:, :3], 0, atol=1e-4)
    bare = caffe.Detector(*files, context_pad=3)
    assert (bare.crop(image, (0, 16, 5, 21))[:3] == 0).all()


def test_context_with_a_mean_image(files):
    mean = np.random.default_rng(2).random((3, 12, 12)).astype(np.float32) * 255
    net = caffe.Detector(*files, mean=mean, raw_scale=255, channel_swap=(2, 1, 0))
    assert net.context_pad is None
    net.configure_crop(2)
    expected = mean[::-1].transpose(1, 2, 0) / 255
    np.testing.assert_allclose(net.crop_mean, expected, rtol=1e-6)


def test_selective_search(files, photos, monkeypatch):
    net = _detector(files)
    monkeypatch.setitem(sys.modules, "selective_search_ijcv_with_python", None)
    with pytest.raises(UsageError, match="sergeyk/selective_search_ijcv_with_python"):
        net.detect_selective_search(photos)
    asked = []

    def get_windows(names, cmd):
        asked.append((names, cmd))
        return [np.array([[0, 0, 8, 8], [1, 1, 9, 9]]), np.array([[2, 2, 5, 5]])]

    search = types.SimpleNamespace(get_windows=get_windows)
    monkeypatch.setitem(sys.modules, "selective_search_ijcv_with_python", search)
    found = net.detect_selective_search(photos)
    assert asked == [(photos, "selective_search_rcnn")]
    assert [each["filename"] for each in found] == [photos[0], photos[0], photos[1]]


def test_wrong_windows(files, photos):
    net = _detector(files)
    for window in ((5, 5, 5, 9), (500, 500, 600, 600), (9, 9, 2, 2)):
        with pytest.raises(ValueError, match="holds nothing"):
            net.detect_windows([(photos[0], [window])])
    with pytest.raises(ValueError, match="ymin, xmin, ymax, xmax"):
        net.detect_windows([(photos[0], [(1, 2, 3)])])
    with pytest.raises(OSError, match=r"none\.png"):
        net.detect_windows([("none.png", [(0, 0, 2, 2)])])
    with pytest.raises(PoseidonError, match="context_pad=6 leaves nothing"):
        net.configure_crop(6)
    net.configure_crop(2)
    with pytest.raises(ValueError, match="holds nothing"):
        net.crop(np.zeros((20, 20, 3)), (500, 500, 600, 600))
