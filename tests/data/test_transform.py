"""The transformer against the obvious loop over pixels."""

from __future__ import annotations

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poseidon_caffe.backend.memory import view_of
from poseidon_caffe.data.batch import Batch
from poseidon_caffe.data.transform import Transformer, TransformSettings
from poseidon_caffe.errors import DataError, LayerError, ShapeError
from poseidon_caffe.schema import messages
from poseidon_caffe.schema.mean import write_mean
from poseidon_caffe.types import Phase


def output(count, shape, channels_last=False):
    whole = (count, *shape)
    raw = np.full(int(np.prod(whole)), np.nan, np.float32)
    return view_of(raw, whole, channels_last=channels_last)


def transformed(images, settings, phase=Phase.TEST, records=None, **kwargs):
    transformer = Transformer(settings, phase, key=11)
    records = range(len(images)) if records is None else records
    out = output(len(images), transformer.output_shape(images[0].shape), **kwargs)
    transformer.apply(images, records, out)
    return out


def noise(count, shape, seed=0):
    return list(np.random.default_rng(seed).integers(0, 256, (count, *shape), np.uint8))


def candidates(image, mean, scale, crop):
    """Every result that a random crop and mirror may give."""
    values = (image.astype(np.float32) - np.float32(mean)) * np.float32(scale)
    height, width = image.shape[1:]
    for y in range(height - crop + 1):
        for x in range(width - crop + 1):
            part = values[:, y : y + crop, x : x + crop]
            yield (y, x, False), part
            yield (y, x, True), part[:, :, ::-1]


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_mean_then_scale(dtype, large, channels_last):
    shape = (3, 120, 110) if large else (3, 6, 5)
    images = [image.astype(dtype) for image in noise(4, shape)]
    settings = TransformSettings(scale=0.25, mean_values=(10, 20, 30))
    out = transformed(images, settings, channels_last=channels_last)
    mean = np.array([10, 20, 30], np.float32)[:, None, None]
    np.testing.assert_array_equal(out, (np.stack(images) - mean) * np.float32(0.25))


def test_one_mean_value_is_for_all_channels():
    images = noise(2, (3, 2, 2))
    out = transformed(images, TransformSettings(mean_values=(100,)))
    np.testing.assert_array_equal(out, np.stack(images).astype(np.float32) - 100)


@pytest.mark.parametrize("channels_last", [False, True])
def test_the_mean_image_is_cropped_and_mirrored_with_the_picture(
    tmp_path, channels_last
):
    mean = np.random.default_rng(1).uniform(0, 255, (2, 7, 6)).astype(np.float32)
    write_mean(tmp_path / "mean.binaryproto", mean)
    settings = TransformSettings(
        scale=0.5,
        mirror=True,
        crop_size=4,
        mean_file=str(tmp_path / "mean.binaryproto"),
    )
    images = noise(60, (2, 7, 6))
    out = transformed(
        images, settings, Phase.TRAIN, range(1000, 1120, 2), channels_last=channels_last
    )
    seen = set()
    for image, got in zip(images, out, strict=True):
        fitting = [
            what
            for what, values in candidates(image, mean, 0.5, 4)
            if np.array_equal(values, got)
        ]
        assert len(fitting) == 1
        seen.add(fitting[0])
    assert {flipped for _, _, flipped in seen} == {False, True}
    assert {y for y, _, _ in seen} == set(range(4))
    assert {x for _, x, _ in seen} == set(range(3))


def test_testing_crops_in_the_middle():
    images = noise(3, (1, 9, 8))
    out = transformed(images, TransformSettings(crop_size=4))
    np.testing.assert_array_equal(out, np.stack(images)[:, :, 2:6, 2:6])


def test_mirroring_is_random_in_testing_too():
    images = noise(40, (1, 2, 3))
    out = transformed(images, TransformSettings(mirror=True))
    flipped = [
        np.array_equal(got, image[:, :, ::-1])
        for image, got in zip(images, out, strict=True)
    ]
    assert 8 < sum(flipped) < 32
    plain = [np.array_equal(g, i) for i, g in zip(images, out, strict=True)]
    assert plain == [not one for one in flipped]


SETTINGS = st.builds(
    TransformSettings,
    scale=st.sampled_from([1.0, 0.00390625, 3.0]),
    mirror=st.booleans(),
    crop_size=st.sampled_from([0, 1, 4, 5]),
    mean_values=st.sampled_from([(), (7.5,), (1.0, 2.0, 3.0)]),
)


@hypothesis.settings(deadline=None)
@given(SETTINGS, st.sampled_from(Phase), st.booleans(), st.integers(0, 2**40))
def test_batches_and_single_records_agree(settings, phase, channels_last, first):
    """However records are grouped, strided and stored, the result is the same."""
    images = noise(5, (3, 5, 6), seed=first % 17)
    records = range(first, first + 15, 3)
    whole = transformed(images, settings, phase, records, channels_last=channels_last)
    for i, record in enumerate(records):
        # A strided view, as a decoded picture is, takes the other path.
        strided = np.ascontiguousarray(images[i].transpose(1, 2, 0)).transpose(2, 0, 1)
        alone = transformed([strided], settings, phase, range(record, record + 1))
        np.testing.assert_array_equal(alone[0], whole[i])


def test_images_of_different_sizes_may_be_cropped():
    images = [*noise(1, (1, 5, 9)), *noise(1, (1, 8, 6))]
    for phase in Phase:
        out = transformed(images, TransformSettings(crop_size=5), phase)
        assert np.isfinite(out).all()
    np.testing.assert_array_equal(out[1], images[1][:, 1:6, 0:5])


def test_images_of_different_sizes_need_a_crop():
    images = [*noise(1, (1, 5, 9)), *noise(1, (1, 8, 6))]
    with pytest.raises(DataError, match="must be of one size"):
        transformed(images, TransformSettings())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (TransformSettings(crop_size=6), "crop_size 6 is larger than the image of 5x7"),
        (TransformSettings(mean_values=(1, 2)), "2 mean_value for 3 channels"),
    ],
)
def test_settings_that_do_not_fit(settings, message):
    with pytest.raises(ShapeError, match=message):
        Transformer(settings).output_shape((3, 5, 7))


def test_a_mean_image_that_does_not_fit(tmp_path):
    write_mean(tmp_path / "m", np.zeros((3, 4, 4), np.float32))
    transformer = Transformer(TransformSettings(mean_file=str(tmp_path / "m")))
    with pytest.raises(ShapeError, match=r"has the shape \(3, 4, 4\)"):
        transformer.output_shape((3, 5, 4))


def test_settings_from_a_message():
    message = messages.TransformationParameter(
        scale=0.5, mirror=True, crop_size=3, mean_value=[1, 2, 3], force_gray=True
    )
    assert TransformSettings.from_message(message) == TransformSettings(
        0.5, mirror=True, crop_size=3, mean_values=(1, 2, 3), force_gray=True
    )
    assert (
        TransformSettings.from_message(messages.TransformationParameter())
        == TransformSettings()
    )
    message.mean_file = "x"
    with pytest.raises(LayerError, match="exclude each other"):
        TransformSettings.from_message(message)


class Raw(Batch):
    """A batch for a device that transforms."""

    def untransformed(self, image, target):
        self.target = target
        self.data = np.zeros((self.label.size, *image.shape), image.dtype)
        self.places = np.full((self.label.size, 3), -1, np.int32)
        return self.data, self.places


@pytest.mark.parametrize("crop", [0, 4])
@pytest.mark.parametrize("phase", [Phase.TRAIN, Phase.TEST])
def test_what_a_device_is_told_is_what_would_be_done_here(phase, crop):
    settings = TransformSettings(0.5, mirror=True, crop_size=crop, mean_values=(7,))
    transformer = Transformer(settings, phase, key=3)
    for images in (noise(9, (3, 7, 8)), np.stack(noise(9, (3, 7, 8)))):
        raw, done = Raw(9), Batch(9)
        transformer.fill(images, range(9), raw)
        transformer.fill(images, range(9), done)
        h, w = raw.target[1:]
        assert done.data.shape == (9, *raw.target)
        np.testing.assert_array_equal(raw.data, np.stack(images))
        for image, (row, column, mirrored), want in zip(
            raw.data, raw.places, done.data, strict=True
        ):
            value = image[:, row : row + h, column : column + w].astype(np.float32)
            value = (value - 7) * 0.5
            value = value[:, :, ::-1] if mirrored else value
            np.testing.assert_array_equal(value, want)
        assert set(raw.places[:, 2].tolist()) == {0, 1}
        spread = len(set(map(tuple, raw.places[:, :2].tolist())))
        assert (spread > 1) == bool(crop and phase == Phase.TRAIN)
    assert transformer.rule.mean_values == (7,)
    assert transformer.rule.scale == 0.5


def test_images_that_differ_are_transformed_here():
    images = [*noise(1, (1, 5, 9)), *noise(1, (1, 8, 6))]
    batch = Raw(2)
    Transformer(TransformSettings(crop_size=4)).fill(images, range(2), batch)
    assert batch.data.dtype == np.float32
    assert batch.data.shape == (2, 1, 4, 4)
