from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe import caffe
from poseidon_caffe.errors import PoseidonError, UsageError

NET = """
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 4 dim: 3 dim: 12 dim: 10 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param {
  num_output: 4 kernel_size: 3 stride: 2 weight_filler { type: "xavier" } } }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip" inner_product_param {
  num_output: 5 weight_filler { type: "gaussian" std: 0.1 } } }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }
"""
MEAN = np.array([100.0, 110.0, 120.0])


@pytest.fixture
def files(tmp_path):
    """A deploy prototxt and weights for it."""
    model, weights = tmp_path / "deploy.prototxt", tmp_path / "net.caffemodel"
    model.write_text(NET)
    caffe.set_random_seed(11)
    caffe.Net(str(model), caffe.TEST).save(str(weights))
    return str(model), str(weights)


@pytest.fixture
def images(golden):
    """Real photographs of several sizes."""
    paths = sorted((golden / "data" / "images").iterdir())[:3]
    return [caffe.io.load_image(path) for path in paths]


def _by_hand(files, crops):
    """Probabilities of crops (H, W, RGB from 0 to 1), one after the other."""
    net = caffe.Net(files[0], caffe.TEST, weights=files[1])
    rows = []
    for crop in crops:
        blob = (crop[:, :, ::-1] * 255 - MEAN).transpose(2, 0, 1)
        net.blobs["data"].data[...] = blob
        rows.append(net.forward()["prob"][0].copy())
    return np.array(rows)


def _classifier(files, **options):
    return caffe.Classifier(
        *files, mean=MEAN, raw_scale=255, channel_swap=(2, 1, 0), **options
    )


def test_center_only(files, images):
    net = _classifier(files, image_dims=(16, 15))
    assert isinstance(net, caffe.Net)
    assert list(net.crop_dims) == [12, 10]
    scaled = [caffe.io.resize_image(image, (16, 15)) for image in images]
    expected = _by_hand(files, [image[2:14, 2:12] for image in scaled])
    got = net.predict(images, oversample=False)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert np.ptp(got, axis=0).max() > 1e-3  # images differ


def test_oversampling_is_the_mean_of_ten_crops(files, images):
    net = _classifier(files, image_dims=np.array([16, 15]))
    scaled = [caffe.io.resize_image(image, (16, 15)) for image in images]
    crops = caffe.io.oversample(scaled, (12, 10))
    expected = _by_hand(files, crops).reshape(3, 10, 5).mean(axis=1)
    np.testing.assert_allclose(net.predict(images), expected, atol=1e-5)


def test_images_are_scaled_to_the_input_by_default(files, images):
    net = _classifier(files, input_scale=1.0)
    scaled = [caffe.io.resize_image(image, (12, 10)) for image in images]
    got = net.predict(images, oversample=False)
    np.testing.assert_allclose(got, _by_hand(files, scaled), atol=1e-5)


def test_what_cannot_be_classified(files, images, tmp_path):
    net = _classifier(files, image_dims=(11, 15))
    for oversample in (True, False):
        with pytest.raises(ValueError, match="11x15"):
            net.predict(images, oversample)
    with pytest.raises(ValueError, match="no images"):
        net.predict([])
    with pytest.raises(PoseidonError, match="same channels"):
        net.predict([images[0], images[0][:, :, :1]])
    with pytest.raises(PoseidonError, match="channels"):
        _classifier(files).predict([images[0][:, :, :1]])
    with pytest.raises(ValueError, match="mean"):
        caffe.Classifier(*files, mean=np.zeros(4))
    model = tmp_path / "train.prototxt"
    model.write_text(
        'layer { name: "d" type: "DummyData" top: "d" '
        "dummy_data_param { shape { dim: 1 } } }"
    )
    with pytest.raises(UsageError, match="no inputs"):
        caffe.Classifier(str(model), files[1])
