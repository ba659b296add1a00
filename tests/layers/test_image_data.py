"""ImageData against Caffe's own batches, and what Caffe's cannot do."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.backend.reference import ReferenceOps
from poseidon_caffe.data.image import ColorMode, encode_image, read_image
from poseidon_caffe.errors import DataError, LayerError, ParseError, ShapeError
from poseidon_caffe.layers.base import LayerContext
from poseidon_caffe.layers.fed import RESTARTING
from poseidon_caffe.layers.image_data import ImageData
from poseidon_caffe.schema.messages import NetParameter
from poseidon_caffe.schema.text import parse_prototxt
from poseidon_caffe.types import Phase, Shard

LIST = 'source: "list.txt" root_folder: "images/"'
SMALL = f"{LIST} new_height: 9 new_width: 8"
RANDOM = (
    "transform_param { crop_size: 7 mirror: true scale: 0.5 mean_value: 3 } "
    f"image_data_param {{ {SMALL} batch_size: %d shuffle: true rand_skip: 11 }}"
)


@pytest.fixture(autouse=True)
def inside(golden, monkeypatch):
    monkeypatch.chdir(golden / "data")


@pytest.fixture
def build():
    """Makes layers from prototxt, closed at the end."""
    made = []

    def make(text, channels_last=False, **context):
        if not text.startswith("layer"):
            text = f'layer {{ name: "d" type: "ImageData" {text} }}'
        param = parse_prototxt(text, NetParameter).layer[0]
        context.setdefault("phase", Phase.TEST)
        layer = ImageData(param, LayerContext(ReferenceOps(), **context))
        made.append(layer)
        top = [Blob(channels_last=channels_last) for _ in range(2)]
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


def labels(layer, top, count):
    return np.concatenate([label for _, label in batches(layer, top, count)])


def numbered(folder, count=10):
    """Grey images of (i + 1) x 4 pixels of the value i, and their list."""
    lines = []
    for i in range(count):
        image = np.full((1, i + 1, 4), i, np.uint8)
        (folder / f"{i}.png").write_bytes(encode_image(image, "png"))
        lines.append(f"{folder}/{i}.png {i}\n")
    (folder / "list.txt").write_text("".join(lines))
    return f'source: "{folder}/list.txt" '


def cases():
    from tests.golden_support import GOLDEN

    with np.load(GOLDEN / "data" / "batches.npz") as stored:
        texts = {k[:-4]: str(stored[k]) for k in stored.files if k.endswith("/net")}
    return [name for name, text in texts.items() if '"ImageData"' in text]


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("prefetch", [False, True])
@pytest.mark.parametrize("case", cases())
def test_batches_are_those_of_caffe(case, prefetch, channels_last, build):
    with np.load("batches.npz") as stored:
        text = str(stored[f"{case}/net"])
        layer, top = build(text, channels_last=channels_last, prefetch=prefetch)
        for count in range(4):
            layer.forward([], top)
            for name, blob in zip(("data", "label"), top, strict=True):
                expected = stored[f"{case}/{count}/{name}"]
                assert blob.shape == expected.shape
                # Exact: one decoder, libjpeg-turbo, and OpenCV's resizing to the bit.
                np.testing.assert_allclose(blob.data, expected, atol=1e-4, rtol=0)


def test_tops_are_shaped_before_the_first_batch(build):
    _, top = build(f"image_data_param {{ {SMALL} batch_size: 3 is_color: false }}")
    assert [blob.shape for blob in top] == [(3, 1, 9, 8), (3,)]


def test_a_batch_of_one_takes_the_shape_of_its_image(build, tmp_path):
    layer, top = build(f"image_data_param {{ {numbered(tmp_path)} }}")
    for i in range(12):
        layer.forward([], top)
        assert top[0].shape == (1, 3, i % 10 + 1, 4)
        assert (top[0].data == i % 10).all()
        assert top[1].data.tolist() == [i % 10]


def test_images_of_one_batch_must_agree(build, tmp_path):
    source = numbered(tmp_path)
    layer, top = build(f"image_data_param {{ {source} batch_size: 2 }}")
    with pytest.raises(DataError, match=r"list.txt:2: .*all images of a batch"):
        layer.forward([], top)
    # The position stays; with crops they need not agree.
    assert layer.state()["next_record"] == 0
    text = f"transform_param {{ crop_size: 1 }} image_data_param {{ {source} "
    layer, top = build(f"{text} batch_size: 5 }}")
    assert labels(layer, top, 2).tolist() == list(range(10))


def test_a_crop_larger_than_a_later_image_names_its_line(build, tmp_path):
    source = numbered(tmp_path)
    lines = (tmp_path / "list.txt").read_text().splitlines()[::-1]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    crop = "transform_param { crop_size: 3 }"
    layer, top = build(f"{crop} image_data_param {{ {source} batch_size: 10 }}")
    with pytest.raises(ShapeError, match=r"list.txt:9: crop_size 3 is larger"):
        layer.forward([], top)


def test_lines_may_hold_blanks_and_any_ends(build, tmp_path):
    shutil.copy("images/img_00.png", tmp_path / "a  b.png")
    (tmp_path / "l").write_bytes(b"a  b.png -3\r\n\na  b.png 70000")
    text = f'source: "{tmp_path}/l" root_folder: "{tmp_path}/" batch_size: 2'
    layer, top = build(f"image_data_param {{ {text} }}")
    assert labels(layer, top, 1).tolist() == [-3, 70000]
    expected = read_image(tmp_path / "a  b.png", ColorMode.COLOR)
    np.testing.assert_array_equal(top[0].data[1], expected)


def test_each_epoch_has_an_order_of_its_own(build, tmp_path):
    text = f"{numbered(tmp_path, 8)} shuffle: true new_height: 2 new_width: 2"
    layer, top = build(f"image_data_param {{ {text} batch_size: 4 }}", seed=3)
    epochs = labels(layer, top, 10).reshape(5, 8)
    for epoch in epochs:
        assert sorted(epoch) == list(range(8))
    assert len({tuple(epoch) for epoch in epochs}) == 5
    assert tuple(range(8)) not in {tuple(epoch) for epoch in epochs}
    again, top = build(f"image_data_param {{ {text} batch_size: 4 }}", seed=3)
    np.testing.assert_array_equal(labels(again, top, 10), epochs.ravel())
    other, top = build(f"image_data_param {{ {text} batch_size: 4 }}", seed=4)
    assert not np.array_equal(labels(other, top, 10), epochs.ravel())


def test_rand_skip_starts_anywhere_below_it(build, tmp_path):
    text = f"image_data_param {{ {numbered(tmp_path)} rand_skip: 4 }}"
    first = {labels(*build(text, seed=seed), 1)[0] for seed in range(30)}
    assert first == {0, 1, 2, 3}
    many = f"image_data_param {{ {numbered(tmp_path)} rand_skip: 4000 }}"
    with pytest.raises(LayerError, match=r"rand_skip 4000 .* has 10"):
        build(many)


@pytest.mark.parametrize("world", [2, 3])
def test_workers_together_read_what_one_would(world, build):
    whole = batches(*build(RANDOM % (2 * world), phase=Phase.TRAIN, seed=5), 8)
    parts = [
        batches(*build(RANDOM % 2, phase=Phase.TRAIN, seed=5, shard=Shard(r, world)), 8)
        for r in range(world)
    ]
    for step, expected in enumerate(whole):
        for r in range(world):
            for got, every in zip(parts[r][step], expected, strict=True):
                np.testing.assert_array_equal(got, every[r::world])


def test_workers_deal_whole_batches_in_tests(build):
    text = f"image_data_param {{ {SMALL} batch_size: 4 }}"
    whole = batches(*build(text), 6)
    layers = [build(text, shard=Shard(r, 2, by_batch=True)) for r in range(2)]
    for k, expected in enumerate(whole):
        for r, (layer, top) in enumerate(layers):
            if k % 2 == r:
                (got,) = batches(layer, top, 1)
                for a, b in zip(got, expected, strict=True):
                    np.testing.assert_array_equal(a, b)
            else:
                layer.skip_batch()


@pytest.mark.parametrize("threads", [1, 3])
def test_a_resumed_layer_goes_on_exactly(threads, build):
    text = RANDOM.replace("rand_skip", f"threads: {threads} rand_skip") % 4
    through = batches(*build(RANDOM % 4, phase=Phase.TRAIN, seed=9), 8)
    first, top = build(text, phase=Phase.TRAIN, seed=9)
    batches(first, top, 3)
    # Another seed: the order, too, is the one of the run that was left.
    second, top = build(text, phase=Phase.TRAIN, seed=10)
    batches(second, top, 1)
    second.restore_state(first.state())
    for got, expected in zip(batches(second, top, 5), through[3:], strict=True):
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_log_is_caffes(build):
    text = f"image_data_param {{ {SMALL} batch_size: 5 shuffle: true rand_skip: 1 }}"
    layer, top = build(text)
    notes = []
    layer.note = notes.append
    batches(layer, top, 2)
    lines = ["Shuffling data", "A total of 13 images.", "Skipping first 0 data points."]
    assert notes == lines
    batches(layer, top, 1)
    assert notes == [*lines, RESTARTING]


def test_lists_of_their_own(build, tmp_path):
    source = numbered(tmp_path, 3)
    (tmp_path / "list.txt").rename(tmp_path / "list.txt_1")
    text = f"image_data_param {{ {source} shared_file_system: false }}"
    layer, top = build(text, shard=Shard(1, 2))
    assert labels(layer, top, 3).tolist() == [0, 1, 2]
    assert not layer.state_is_shared
    assert layer.record_count is None
    with pytest.raises(ParseError, match=r"list\.txt_0"):
        build(text, shard=Shard(0, 2))


def test_a_shared_list_is_counted(build):
    layer, _ = build(f"image_data_param {{ {SMALL} batch_size: 5 }}")
    assert layer.state_is_shared
    assert layer.record_count == 13


def test_a_missing_image_names_its_line(build, tmp_path):
    numbered(tmp_path, 2)
    text = (tmp_path / "list.txt").read_text()
    (tmp_path / "list.txt").write_text(f"\n{text}\nno/where.png 3\n")
    source = f'source: "{tmp_path}/list.txt" new_height: 2 new_width: 2'
    layer, top = build(f"image_data_param {{ {source} }}")
    batches(layer, top, 2)
    for _ in range(2):
        with pytest.raises(DataError, match=r"list.txt:5: no/where.png: cannot be"):
            layer.forward([], top)


def test_a_damaged_first_image_is_found_in_setup(build, tmp_path):
    (tmp_path / "0.png").write_bytes(b"no image")
    (tmp_path / "list.txt").write_text(f"{tmp_path}/0.png 0\n")
    with pytest.raises(DataError, match=r'layer "d" \(ImageData\): .*list.txt:1: '):
        build(f'image_data_param {{ source: "{tmp_path}/list.txt" }}')


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("batch_size: 1", LayerError, "image_data_param has no source"),
        (f"{LIST} batch_size: 0", LayerError, "batch_size must be at least 1"),
        (f"{LIST} new_width: 3", LayerError, "new_height 0 and new_width 3"),
        ('source: "nowhere.txt"', ParseError, "nowhere.txt: the list"),
    ],
)
def test_wrong_settings_are_refused(text, error, message, build):
    with pytest.raises(error, match=message):
        build(f"image_data_param {{ {text} }}")


def test_a_line_without_a_label_is_named(build, tmp_path):
    (tmp_path / "list.txt").write_text("a.png 1\nb.png\n")
    told = r'layer "d" \(ImageData\): .*list.txt:2: expected "PATH LABEL"'
    with pytest.raises(ParseError, match=told):
        build(f'image_data_param {{ source: "{tmp_path}/list.txt" }}')
