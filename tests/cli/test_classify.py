from __future__ import annotations

import shutil

import numpy as np
import pytest

from poseidon_caffe import caffe
from poseidon_caffe.cli.main import run
from poseidon_caffe.schema.mean import write_mean
from tests.cli.image_nets import save_net, words_for

CENTER = "--center_only"


@pytest.fixture
def words(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    monkeypatch.setenv("GOMP_SPINCOUNT", "1")
    return ["classify", *words_for(save_net(tmp_path)), "--images_dim=14,13"]


@pytest.fixture
def photo(golden):
    return golden / "data" / "images" / "img_01.jpg"


def _expected(tmp_path, images, mean=None, *, oversample=True, **options):
    model, weights = tmp_path / "deploy.prototxt", tmp_path / "net.caffemodel"
    settings = {"raw_scale": 255.0, "channel_swap": (2, 1, 0), **options}
    net = caffe.Classifier(model, weights, image_dims=(14, 13), mean=mean, **settings)
    return net.predict(images, oversample)


def test_one_image(words, photo, tmp_path, capsys):
    target = tmp_path / "out.npy"
    assert run([*words, "--mean_file=", str(photo), str(target)]) == 0
    expected = _expected(tmp_path, [caffe.io.load_image(photo)])
    np.testing.assert_array_equal(np.load(target), expected)
    assert expected.shape == (1, 4)
    log = [line.partition("] ")[2] for line in capsys.readouterr().err.splitlines()]
    assert f"Loading file: {photo}" in log
    assert "Classifying 1 inputs." in log
    assert f"Saving results into {target}" in log


def test_a_folder(words, golden, photo, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("b.jpg", "a.jpg"):
        shutil.copy(photo, folder / name)
    shutil.copy(golden / "data" / "images" / "img_00.png", folder / "c.png")
    images = [caffe.io.load_image(folder / name) for name in ("a.jpg", "b.jpg")]
    target = str(tmp_path / "out")  # NumPy's ending is added
    assert run([*words, "--mean_file=", CENTER, str(folder), target]) == 0
    np.testing.assert_array_equal(
        np.load(f"{target}.npy"), _expected(tmp_path, images, oversample=False)
    )
    assert run([*words, "--mean_file=", "--ext=png", str(folder), target]) == 0
    assert np.load(f"{target}.npy").shape == (1, 4)
    assert run([*words, "--mean_file=", "--ext=bmp", str(folder), target]) == 1


def test_arrays_means_and_scales(words, tmp_path):
    generator = np.random.default_rng(4)
    images = generator.random((3, 20, 17, 3)).astype(np.float32)
    np.save(tmp_path / "in.npy", images)
    mean = generator.random((3, 30, 30)).astype(np.float32)
    np.save(tmp_path / "mean.npy", mean)
    write_mean(tmp_path / "mean.binaryproto", mean)
    flags = ["--raw_scale=2", "--input_scale=0.5", "--channel_swap=0,2,1"]
    expected = _expected(
        tmp_path, images, mean, raw_scale=2, input_scale=0.5, channel_swap=(0, 2, 1)
    )
    for name in ("mean.npy", "mean.binaryproto"):
        files = [str(tmp_path / "in.npy"), str(tmp_path / "out.npy")]
        assert run([*words, *flags, f"--mean_file={tmp_path / name}", *files]) == 0
        np.testing.assert_allclose(np.load(files[1]), expected, rtol=1e-6)


def test_a_gray_net_takes_gray_images(words, photo, tmp_path):
    save_net(tmp_path, channels=1)
    target = tmp_path / "out.npy"
    assert run([*words, "--mean_file=", str(photo), str(target)]) == 0
    gray = caffe.io.load_image(photo, color=False)
    expected = _expected(tmp_path, [gray], channel_swap=None)
    np.testing.assert_array_equal(np.load(target), expected)


def test_errors_are_one_line(words, photo, tmp_path, capsys):
    np.save(tmp_path / "flat.npy", np.zeros(3))
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    (tmp_path / "bad.npy").write_bytes(b"no array")
    target, none = str(tmp_path / "out.npy"), "--mean_file="
    for more, said in (
        ([str(photo)], "--mean_file=python/caffe"),
        ([none, "none.jpg"], "none.jpg"),
        ([none, "--model_def=none.prototxt", str(photo)], "none.prototxt"),
        ([none, "--images_dim=5", str(photo)], "--images_dim"),
        ([none, "--images_dim=5,5", str(photo)], "5x5"),
        ([none, "--channel_swap=a,b", str(photo)], "--channel_swap"),
        ([none, "--channel_swap=1", str(photo)], "channels"),
        ([none, str(tmp_path / "flat.npy")], "flat.npy"),
        ([none, str(tmp_path / "objects.npy")], "objects.npy"),
        ([none, str(tmp_path / "bad.npy")], "bad.npy"),
        ([f"--mean_file={tmp_path / 'flat.npy'}", str(tmp_path / "bad.npy")], "bad"),
    ):
        assert run([*words, *more, target]) == 1
        err = capsys.readouterr().err
        assert said in err
        assert "Traceback" not in err
    assert not (tmp_path / "out.npy").exists()
