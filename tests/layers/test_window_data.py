"""WindowData against a slow rendition of its rules, pixel by pixel."""

from __future__ import annotations

import math

import numpy as np
import pytest

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.backend.reference import ReferenceOps
from poseidon_caffe.data.image import encode_image
from poseidon_caffe.data.resize import resize
from poseidon_caffe.errors import DataError, LayerError, ParseError, ShapeError
from poseidon_caffe.layers.base import LayerContext
from poseidon_caffe.layers.window_data import WindowData
from poseidon_caffe.schema.mean import write_mean
from poseidon_caffe.schema.messages import NetParameter
from poseidon_caffe.schema.text import parse_prototxt
from poseidon_caffe.types import Phase, Shard

SIZES = ((40, 50), (33, 21), (60, 64))
# class, overlap, x1, y1, x2, y2: two are foreground, two background, one neither.
BOXES = (
    ("3 0.9 5 6 30 20", "0 0.1 0 0 12 39", "2 0.4 1 1 5 5"),
    ("1 0.6 10 2 20 32",),
    ("7 0.0 40 10 63 59",),
)
SETTINGS = "fg_threshold: 0.6 bg_threshold: 0.3"


@pytest.fixture(scope="module")
def images():
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (3, h, w), np.uint8) for h, w in SIZES]


@pytest.fixture
def folder(images, tmp_path, monkeypatch):
    """The working folder, with images and windows.txt."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    blocks = []
    for i, image in enumerate(images):
        (tmp_path / f"in/{i}.png").write_bytes(encode_image(image, "png"))
        head = f"# {i}\n{i}.png\n3\n{image.shape[1]}\n{image.shape[2]}\n"
        lines = "\n".join(BOXES[i])
        blocks.append(f"{head}{len(BOXES[i])}\n{lines}\n")
    (tmp_path / "windows.txt").write_text("".join(blocks))
    return tmp_path


@pytest.fixture
def build(folder):
    """Makes layers, closed at the end."""
    made = []

    def make(window="batch_size: 4", transform="crop_size: 16", **context):
        files = 'source: "windows.txt" root_folder: "in/"'
        where = f"{context.pop('files', files)} {context.pop('kinds', SETTINGS)}"
        text = (
            'layer { name: "w" type: "WindowData" '
            f"transform_param {{ {transform} }} "
            f"window_data_param {{ {where} {window} }} }}"
        )
        param = parse_prototxt(text, NetParameter).layer[0]
        last = context.pop("channels_last", False)
        context.setdefault("phase", Phase.TRAIN)
        layer = WindowData(param, LayerContext(ReferenceOps(), **context))
        made.append(layer)
        top = [Blob(channels_last=last) for _ in range(2)]
        layer.setup([], top)
        return layer, top

    yield make
    for layer in made:
        layer.close()


def batches(layer, top, count):
    found = []
    for _ in range(count):
        layer.forward([], top)
        found.append([blob.data.copy() for blob in top])
    return found


def away(value):
    return math.floor(value + 0.5) if value >= 0 else -math.floor(0.5 - value)


def slow(image, box, side, pad, square, flip, mean, scale):
    """One window by the rules, a pixel at a time; None if nothing is left."""
    x1, y1, x2, y2 = box
    height, width = image.shape[1:]
    left = top = 0
    new_height = new_width = side
    if pad or square:
        grow = side / (side - 2 * pad)
        half = [(x2 - x1 + 1) / 2, (y2 - y1 + 1) / 2]
        centre = [x1 + half[0], y1 + half[1]]
        if square:
            half = [max(half)] * 2
        x1, y1 = (away(c - h * grow) for c, h in zip(centre, half, strict=True))
        x2, y2 = (away(c + h * grow) for c, h in zip(centre, half, strict=True))
        sx, sy = side / (x2 - x1 + 1), side / (y2 - y1 + 1)
        beyond_right = max(0, x2 - width + 1)
        left = away((beyond_right if flip else max(0, -x1)) * sx)
        top = away(max(0, -y1) * sy)
        x1, y1, x2, y2 = max(x1, 0), max(y1, 0), min(x2, width - 1), min(y2, height - 1)
        new_width = min(away((x2 - x1 + 1) * sx), side - left)
        new_height = min(away((y2 - y1 + 1) * sy), side - top)
    warped = resize(image[:, y1 : y2 + 1, x1 : x2 + 1], new_height, new_width)
    out = np.zeros((3, side, side))
    for c in range(3):
        for h in range(new_height):
            for w in range(new_width):
                pixel = float(warped[c, h, new_width - 1 - w if flip else w])
                off = mean(c, h + top, w + left)
                out[c, h + top, w + left] = (pixel - off) * scale
    return out


def every(images, **how):
    """label -> all that its window may become."""
    found = {}
    for image, lines in zip(images, BOXES, strict=True):
        for line in lines:
            label, overlap, *box = (float(word) for word in line.split())
            if overlap >= 0.6 or overlap < 0.3:
                key = int(label) if overlap >= 0.6 else 0
                box = [int(value) for value in box]
                for flip in (False, True):
                    wanted = slow(image, box, flip=flip, **how)
                    found.setdefault(key, []).append((flip, wanted))
    return found


FORMS = [(0, "warp"), (0, "square"), (3, "warp"), (3, "square"), (7, "square")]


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(("pad", "mode"), FORMS)
def test_windows_are_those_of_the_rules(pad, mode, channels_last, images, build):
    text = f'batch_size: 24 fg_fraction: 0.5 context_pad: {pad} crop_mode: "{mode}"'
    values = "mean_value: 10 mean_value: 20 mean_value: 30"
    layer, top = build(
        f"{text} scale: 0.5",
        f"crop_size: 16 mirror: true {values}",
        channels_last=channels_last,
    )
    possible = every(
        images,
        side=16,
        pad=pad,
        square=mode == "square",
        mean=lambda c, h, w: 10 * (c + 1),
        scale=0.5,
    )
    seen = set()
    for data, labels in batches(layer, top, 3):
        assert (labels[:12] == 0).all()
        assert (labels[12:] > 0).all()
        for got, label in zip(data, labels, strict=True):
            options = possible[int(label)]
            equal = [i for i, (_, w) in enumerate(options) if np.allclose(got, w)]
            assert len(equal) == 1, f"label {label} is none of its windows"
            seen.add((int(label), equal[0]))
    # Both foreground windows and both background windows, each way round.
    assert len(seen) == 8


def test_the_middle_of_a_mean_file_is_taken_off(images, build, folder):
    mean = np.random.default_rng(1).normal(100, 20, (3, 21, 19)).astype(np.float32)
    write_mean(folder / "mean.binaryproto", mean)
    layer, top = build(
        "batch_size: 6 fg_fraction: 1 context_pad: 2",
        'crop_size: 16 mean_file: "mean.binaryproto"',
    )
    possible = every(
        images,
        side=16,
        pad=2,
        square=False,
        # Caffe: the width gives the offset in both directions.
        mean=lambda c, h, w: float(mean[c, h + 1, w + 1]),
        scale=1,
    )
    ((data, labels),) = batches(layer, top, 1)
    for got, label in zip(data, labels, strict=True):
        flip, expected = possible[int(label)][0]
        assert not flip
        np.testing.assert_allclose(got, expected, atol=1e-4)


def test_the_scale_of_the_transform_has_no_effect(build):
    plain = batches(*build(), 1)[0][0]
    scaled = batches(*build(transform="crop_size: 16 scale: 0.1"), 1)[0][0]
    np.testing.assert_array_equal(plain, scaled)


def test_kept_files_change_nothing(build, folder):
    text = "batch_size: 5 fg_fraction: 0.4"
    plain = batches(*build(text, seed=2), 2)
    layer, top = build(f"{text} cache_images: true", seed=2)
    for path in (folder / "in").iterdir():
        path.unlink()
    for a, b in zip(batches(layer, top, 2), plain, strict=True):
        np.testing.assert_array_equal(a[0], b[0])
        np.testing.assert_array_equal(a[1], b[1])


# In single precision 10 * 0.3 is 3, and 5 * 0.2 is 1.
@pytest.mark.parametrize(
    ("size", "fraction", "front"),
    [(4, 0.25, 1), (7, 0.25, 1), (10, 0.3, 3), (5, 0.2, 1), (3, 0, 0), (2, 1, 2)],
)
def test_the_share_of_the_foreground_is_rounded_down(size, fraction, front, build):
    layer, top = build(f"batch_size: {size} fg_fraction: {fraction}")
    assert [blob.shape for blob in top] == [(size, 3, 16, 16), (size,)]
    ((_, labels),) = batches(layer, top, 1)
    assert np.flatnonzero(labels).tolist() == list(range(size - front, size))


MIXED = "batch_size: %d fg_fraction: 0.5 context_pad: 2"
FLIPPED = "crop_size: 12 mirror: true"


@pytest.mark.parametrize("world", [2, 3])
def test_workers_together_draw_what_one_would(world, build):
    whole = batches(*build(MIXED % (4 * world), FLIPPED, seed=5), 4)
    parts = [
        batches(*build(MIXED % 4, FLIPPED, seed=5, shard=Shard(r, world)), 4)
        for r in range(world)
    ]
    for step, expected in enumerate(whole):
        for r in range(world):
            for got, all_of_it in zip(parts[r][step], expected, strict=True):
                np.testing.assert_array_equal(got, all_of_it[r::world])


def test_workers_deal_whole_batches_in_tests(build):
    whole = batches(*build(MIXED % 4), 5)
    layers = [build(MIXED % 4, shard=Shard(r, 2, by_batch=True)) for r in range(2)]
    for k, expected in enumerate(whole):
        for r, (layer, top) in enumerate(layers):
            if k % 2 != r:
                layer.skip_batch()
                continue
            (got,) = batches(layer, top, 1)
            np.testing.assert_array_equal(got[0], expected[0])
            np.testing.assert_array_equal(got[1], expected[1])


@pytest.mark.parametrize("prefetch", [False, True])
def test_a_resumed_layer_goes_on_exactly(prefetch, build):
    through = batches(*build(MIXED % 4, FLIPPED, seed=9, prefetch=prefetch), 7)
    first, top = build(MIXED % 4, FLIPPED, seed=9, prefetch=prefetch)
    batches(first, top, 3)
    second, top = build(MIXED % 4, FLIPPED, seed=1)
    assert not np.array_equal(batches(second, top, 1)[0][0], through[0][0])
    second.restore_state(first.state())
    for got, expected in zip(batches(second, top, 4), through[3:], strict=True):
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_log_is_caffes_and_knows_no_epochs(build):
    layer, top = build("batch_size: 9 context_pad: 1")
    notes = []
    layer.note = notes.append
    batches(layer, top, 4)
    assert notes == [
        "Number of images: 3",
        "class 0 has 2 samples",
        "class 1 has 1 samples",
        "class 3 has 1 samples",
        "Amount of context padding: 1",
        "Crop mode: warp",
    ]
    assert layer.record_count == 4
    assert layer.state_is_shared


@pytest.mark.parametrize(
    ("window", "transform", "error", "message"),
    [
        ("", "crop_size: 4", LayerError, "batch_size must be"),
        ("batch_size: 1", "", LayerError, "crop_size } must be at least 1"),
        ("batch_size: 1 fg_fraction: 1.5", "crop_size: 4", LayerError, "fg_fraction"),
        ("batch_size: 1 context_pad: 2", "crop_size: 4", LayerError, "context_pad 2"),
        ('batch_size: 1 crop_mode: "oval"', "crop_size: 4", LayerError, '"oval"'),
        (
            "batch_size: 1",
            "crop_size: 4 mean_value: 1 mean_value: 2",
            ShapeError,
            "2 mean_value for 3 channels",
        ),
        (
            "batch_size: 1",
            'crop_size: 4 mean_file: "small.binaryproto"',
            ShapeError,
            "too small for crops",
        ),
    ],
)
def test_wrong_settings_are_refused(window, transform, error, message, build, folder):
    write_mean(folder / "small.binaryproto", np.zeros((3, 4, 5), np.float32)[:, :3])
    with pytest.raises(error, match=message):
        build(window, transform)


def test_a_kind_that_is_missing_is_named(build):
    with pytest.raises(DataError, match="no background windows, and each batch needs"):
        build(kinds="bg_threshold: 0")
    with pytest.raises(
        DataError, match="no foreground windows, and each batch needs 1"
    ):
        build(kinds="fg_threshold: 2")
    # Not all batches need both.
    batches(*build("batch_size: 4 fg_fraction: 1", kinds="bg_threshold: 0"), 1)


def test_a_missing_window_file(build):
    with pytest.raises(ParseError, match=r"no\.txt: the window file cannot be read"):
        build(files='source: "no.txt"')
    with pytest.raises(LayerError, match="window_data_param has no source"):
        build(files="")


def test_a_missing_image_names_file_and_image(build, folder):
    (folder / "in/1.png").unlink()
    layer, top = build("batch_size: 8 fg_fraction: 1")
    with pytest.raises(DataError, match=r"windows.txt: image 1 \(in/1.png\): .*cannot"):
        batches(layer, top, 1)
    with pytest.raises(DataError, match=r'layer "w" .*in/1.png: cannot be read'):
        build("batch_size: 8 cache_images: true")


def test_a_window_outside_its_image_is_named(build, folder):
    text = (folder / "windows.txt").read_text().replace("30 20", "50 20")
    (folder / "windows.txt").write_text(text)
    layer, top = build("batch_size: 8 fg_fraction: 1")
    message = (
        r"image 0 \(in/0.png\): window x1 5 y1 6 x2 50 y2 20 cannot be cut .*40x50"
    )
    with pytest.raises(DataError, match=message):
        batches(layer, top, 1)
    # With surroundings what lies outside is padding.
    batches(*build("batch_size: 8 fg_fraction: 1 context_pad: 1"), 1)


def test_images_of_another_depth_are_refused(build, folder):
    text = (folder / "windows.txt").read_text().replace("2.png\n3", "2.png\n1")
    (folder / "windows.txt").write_text(text)
    with pytest.raises(DataError, match="1 channels"):
        build()
