"""Pictures: what is in them, read back from an SVG and from the pixels of a PNG."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image

from poseidon_caffe.errors import UsageError
from poseidon_caffe.report.log_parser import parse_log, parse_log_text
from poseidon_caffe.report.plot import CHARTS, Axis, NamedLog, plot_logs


@pytest.fixture
def log(golden):
    """Caffe's own log."""
    return NamedLog("lenet", parse_log(golden / "train" / "lenet_reference.log"))


def texts(path):
    """All texts of an SVG; matplotlib leaves each as a comment."""
    return [
        line.strip()[5:-4]
        for line in path.read_text().splitlines()
        if line.strip().startswith("<!-- ")
    ]


def test_all_diagrams_of_a_log(log, tmp_path):
    plot_logs([log], tmp_path / "a.svg")
    seen = texts(tmp_path / "a.svg")
    for text in ("lenet", "Loss", "Accuracy", "Learning rate", "Iteration"):
        assert text in seen
    for text in ("train loss", "test loss", "test accuracy", "learning rate"):
        assert text in seen


def test_each_log_has_a_colour_of_its_own(log, tmp_path):
    other = NamedLog("other", log.log)
    plot_logs([log, other], tmp_path / "a.svg", axis=Axis.SECONDS)
    seen = texts(tmp_path / "a.svg")
    assert "Time since the start (s)" in seen
    assert {"lenet: train loss", "other: train loss", "other: test accuracy"} <= {*seen}
    svg = (tmp_path / "a.svg").read_text()
    # Both kinds of loss, the accuracy and the rate, each with its legend.
    assert svg.count("#0072b2") >= 4
    assert svg.count("#d55e00") >= 4


def test_png_has_both_colours(log, tmp_path):
    later = NamedLog("b", parse_log_text(LATER))
    plot_logs([log, later], tmp_path / "a.png", CHARTS[6])
    image = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    assert image.shape[1] > 1000
    for color in ((0, 0x72, 0xB2), (0xD5, 0x5E, 0)):
        assert (np.abs(image.astype(int) - color).sum(axis=2) < 20).sum() > 200


LATER = "".join(
    f"I1231 00:00:{i:02d}.000000 1 s:1] {text}\n"
    for i, text in enumerate(
        ["Solving a", *(f"Iteration {20 * n}, loss = {3 + n % 3}" for n in range(20))]
    )
)


@pytest.mark.parametrize("number", range(8))
def test_caffes_charts(log, tmp_path, number):
    plot_logs([log], tmp_path / "a.svg", CHARTS[number])
    seen = texts(tmp_path / "a.svg")
    titles = ["Test accuracy", "Test loss", "Train learning rate", "Train loss"]
    along = ["Iters", "Seconds"][number % 2]
    assert f"{titles[number // 2]} vs. {along}" in seen
    assert ("Iteration" in seen) == (number % 2 == 0)


def test_restarted_and_diverged_trainings(tmp_path):
    text = "I1231 00:00:00.000000 1 s:1] Solving a\n"
    for iteration, loss in [(0, "1e30"), (9, "nan"), (5, "inf"), (8, "-1")]:
        text += f"I1231 00:00:01.000000 1 s:1] Iteration {iteration}, loss = {loss}\n"
    plot_logs([NamedLog("a", parse_log_text(text))], tmp_path / "a.svg")
    assert "train loss" in texts(tmp_path / "a.svg")


def test_nothing_to_draw(log, tmp_path):
    text = "I1231 00:00:00.000000 1 s:1] Solving a\n"
    text += "I1231 00:00:00.000000 1 s:1] Iteration 3, Testing net (#0)\n"
    empty = NamedLog("empty", parse_log_text(text))
    with pytest.raises(UsageError, match="no log of empty tells any"):
        plot_logs([empty], tmp_path / "a.png")
    with pytest.raises(UsageError, match="Test accuracy"):
        plot_logs([empty], tmp_path / "a.png", CHARTS[0])
    with pytest.raises(UsageError, match="kind of picture"):
        plot_logs([log], tmp_path / "a.jpgg")
    assert not list(tmp_path.iterdir())


def test_without_matplotlib(log, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UsageError, match=r"poseidon-caffe\[plot\]"):
        plot_logs([log], tmp_path / "a.png")
