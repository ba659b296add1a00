from __future__ import annotations

import csv
import sys
import types

import h5py
import numpy as np
import pytest

from poseidon_caffe import caffe
from poseidon_caffe.cli.main import run
from tests.cli.image_nets import save_net, words_for


@pytest.fixture
def words(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    monkeypatch.setenv("GOMP_SPINCOUNT", "1")
    return ["detect", *words_for(save_net(tmp_path)), "--context_pad=2"]


@pytest.fixture
def photos(golden):
    folder = golden / "data" / "images"
    return [str(folder / name) for name in ("img_01.jpg", "img_00.png")]


@pytest.fixture
def listed(photos, tmp_path):
    """Windows of two images, taking turns, columns in Caffe's example's order."""
    path = tmp_path / "windows.csv"
    rows = [
        "filename, xmin, ymin, xmax, ymax",
        f"{photos[0]}, 1, 2, 13, 14",
        f"{photos[1]}, 0, 0, 9, 8",
        "",
        f"{photos[0]}, 3.0, 1, 11, 12",
    ]
    path.write_text("\n".join(rows) + "\n")
    return str(path)


WINDOWS = [[2, 1, 14, 13], [1, 3, 12, 11], [0, 0, 8, 9]]


def _expected(tmp_path, photos, mean=None):
    net = caffe.Detector(
        tmp_path / "deploy.prototxt",
        tmp_path / "net.caffemodel",
        mean=mean,
        raw_scale=255,
        channel_swap=(2, 1, 0),
        context_pad=2,
    )
    found = net.detect_windows([(photos[0], WINDOWS[:2]), (photos[1], WINDOWS[2:])])
    return np.array([each["prediction"] for each in found])


def test_list_to_csv(words, listed, photos, tmp_path, capsys):
    target = tmp_path / "out.csv"
    flags = ["--crop_mode=list", "--mean_file="]
    assert run([*words, *flags, listed, str(target)]) == 0
    with target.open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == [
        *("filename", "ymin", "xmin", "ymax", "xmax"),
        *("class0", "class1", "class2", "class3"),
    ]
    assert [row[0] for row in rows[1:]] == [photos[0], photos[0], photos[1]]
    assert [[int(x) for x in row[1:5]] for row in rows[1:]] == WINDOWS
    got = np.array([row[5:] for row in rows[1:]], np.float32)
    np.testing.assert_array_equal(got, _expected(tmp_path, photos))
    assert "Processed 3 windows in " in capsys.readouterr().err


def test_list_to_hdf5_with_a_mean(words, listed, photos, tmp_path):
    mean = np.random.default_rng(3).random((3, 9, 9)) * 255
    np.save(tmp_path / "mean.npy", mean)
    target = tmp_path / "out.h5"
    flags = ["--crop_mode=list", f"--mean_file={tmp_path / 'mean.npy'}"]
    assert run([*words, *flags, listed, str(target)]) == 0
    with h5py.File(target) as file:
        names = [name.decode() for name in file["df/filename"]]
        places = [file[f"df/{c}"][:] for c in ("ymin", "xmin", "ymax", "xmax")]
        predictions = file["df/prediction"][:]
    assert names == [photos[0], photos[0], photos[1]]
    np.testing.assert_array_equal(np.transpose(places), WINDOWS)
    expected = _expected(tmp_path, photos, mean.mean(axis=(1, 2)))
    np.testing.assert_allclose(predictions, expected, rtol=1e-6)


def test_selective_search(words, listed, photos, tmp_path, monkeypatch, capsys):
    names = tmp_path / "names.txt"
    names.write_text("\n".join(photos) + "\n\n")
    target = str(tmp_path / "out.csv")
    monkeypatch.setitem(sys.modules, "selective_search_ijcv_with_python", None)
    assert run([*words, "--mean_file=", str(names), target]) == 1
    assert "--crop_mode=list" in capsys.readouterr().err
    search = types.SimpleNamespace(
        get_windows=lambda names, cmd: [np.array([[0, 0, 8, 8]]) for _ in names]
    )
    monkeypatch.setitem(sys.modules, "selective_search_ijcv_with_python", search)
    for source in (str(names), listed):
        assert run([*words, "--mean_file=", source, target]) == 0
        with open(target, newline="") as file:  # noqa: PTH123
            assert [row[0] for row in list(csv.reader(file))[1:]] == photos


def test_no_windows(words, tmp_path):
    (tmp_path / "in.csv").write_text("filename,xmin,ymin,xmax,ymax\n")
    for name in ("out.csv", "out.h5"):
        files = [str(tmp_path / "in.csv"), str(tmp_path / name)]
        assert run([*words, "--crop_mode=list", "--mean_file=", *files]) == 0
    assert (tmp_path / "out.csv").read_text().startswith("filename,ymin")


def test_errors_are_one_line(words, photos, tmp_path, capsys):
    header = "filename,xmin,ymin,xmax,ymax\n"
    for name, text, said in (
        ("windows.csv", "filename,xmin\n", ":1: no column ymin, ymax, xmax"),
        ("windows.csv", header + "a.jpg,1,2,3\n", ":2: expected"),
        ("windows.csv", header + "a.jpg,1,2,3,x\n", ":2: expected"),
        ("windows.csv", header + "a.jpg,1,2,3,inf\n", ":2: expected"),
        ("windows.csv", header + "a.jpg,1,2,3,1e99\n", ":2: expected"),
        ("windows.csv", header + "none.jpg,1,2,3,4\n", "none.jpg"),
        ("windows.csv", header + f"{photos[0]},900,2,903,4\n", "holds nothing"),
        ("windows.csv", "", "no column filename"),
        ("windows.txt", "a.jpg\n", "windows stand in a .csv"),
        ("windows.dat", "a.jpg\n", "expected a .txt or .csv"),
    ):
        (tmp_path / name).write_text(text)
        files = [str(tmp_path / name), str(tmp_path / "out.csv")]
        assert run([*words, "--crop_mode=list", "--mean_file=", *files]) == 1
        err = capsys.readouterr().err
        assert said in err
        assert "Traceback" not in err
    assert not (tmp_path / "out.csv").exists()
