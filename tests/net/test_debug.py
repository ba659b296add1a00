from __future__ import annotations

import re

import numpy as np
import pytest

from tests.net.support import (
    DATA,
    SMALL,
    conv,
    fc,
    fill_inputs,
    layer,
    loss,
    make_net,
)

NUMBER = r"(-?[\d.]+(?:e[-+]\d+)?|nan|-?inf)"


def debug(text, run):
    """The lines that ``run(net)`` gives, and the net."""
    net = make_net("debug_info: true" + text)
    fill_inputs(net)
    lines = []
    net.debug_listener = lines.append
    run(net)
    return lines, net


def mean(array):
    return f"{np.abs(array).sum(dtype=np.float64) / array.size:g}"


def test_forward_lines_are_caffes():
    lines, net = debug(SMALL, lambda n: n.forward())
    data, label, c, f, out = (
        mean(net.blobs[k].data) for k in ("data", "label", "c", "f", "loss")
    )
    params = [mean(blob.data) for blob in net.learnable]
    # The line of the convolution's top was written before the ReLU changed it.
    assert lines.pop(2).startswith("    [Forward] Layer c, top blob c data: ")
    assert lines == [
        f"    [Forward] Layer data, top blob data data: {data}",
        f"    [Forward] Layer data, top blob label data: {label}",
        f"    [Forward] Layer c, param blob 0 data: {params[0]}",
        f"    [Forward] Layer c, param blob 1 data: {params[1]}",
        f"    [Forward] Layer r, top blob c data: {c}",
        f"    [Forward] Layer f, top blob f data: {f}",
        f"    [Forward] Layer f, param blob 0 data: {params[2]}",
        f"    [Forward] Layer f, param blob 1 data: {params[3]}",
        f"    [Forward] Layer loss, top blob loss data: {out}",
    ]


def test_backward_lines_are_caffes():
    def run(net):
        net.forward()
        net.debug_listener([])  # a mark
        net.clear_param_diffs()
        net.backward()

    lines, net = debug(SMALL, run)
    lines = lines[lines.index([]) + 1 :]
    params = [mean(blob.diff) for blob in net.learnable]
    f = mean(net.blobs["f"].diff)
    assert lines[0] == f"    [Backward] Layer loss, bottom blob f diff: {f}"
    # The gradient of c was changed in place after this line.
    assert re.fullmatch(
        rf"    \[Backward\] Layer f, bottom blob c diff: {NUMBER}", lines[1]
    )
    assert lines[2:7] == [
        f"    [Backward] Layer f, param blob 0 diff: {params[2]}",
        f"    [Backward] Layer f, param blob 1 diff: {params[3]}",
        f"    [Backward] Layer r, bottom blob c diff: {mean(net.blobs['c'].diff)}",
        f"    [Backward] Layer c, param blob 0 diff: {params[0]}",
        f"    [Backward] Layer c, param blob 1 diff: {params[1]}",
    ]
    assert len(lines) == 8


def test_the_last_line_sums_up_all_parameters():
    lines, net = debug(SMALL, lambda n: n.forward_backward())
    found = re.fullmatch(
        r"    \[Backward\] All net params \(data, diff\): "
        rf"L1 norm = \({NUMBER}, {NUMBER}\); L2 norm = \({NUMBER}, {NUMBER}\)",
        lines[-1],
    )
    data = np.concatenate([b.data.reshape(-1) for b in net.learnable]).astype(float)
    diff = np.concatenate([b.diff.reshape(-1) for b in net.learnable]).astype(float)
    want = [np.abs(data).sum(), np.abs(diff).sum()]
    want += [np.linalg.norm(data), np.linalg.norm(diff)]
    assert [float(x) for x in found.groups()] == pytest.approx(want, rel=1e-5)


def test_a_part_of_the_net_is_not_summed_up():
    def run(net):
        net.forward()
        net.backward(4, 3)

    lines, _ = debug(SMALL, run)
    assert not any("All net params" in line for line in lines)
    assert lines[-1].startswith("    [Backward] Layer f, param blob 1")


def test_shared_parameters_show_their_name_forward_and_number_backward():
    text = DATA + fc("f", "data", body='param { name: "w" }') + loss("loss", "f label")
    lines, _ = debug(text, lambda n: n.forward_backward())
    found = [line.split(":")[0] for line in lines if "Layer f, param" in line]
    assert found == [
        "    [Forward] Layer f, param blob w data",
        "    [Forward] Layer f, param blob 1 data",
        "    [Backward] Layer f, param blob 0 diff",
        "    [Backward] Layer f, param blob 1 diff",
    ]


def test_what_is_frozen_or_unused_has_no_backward_line():
    text = (
        DATA
        + conv("c", "data", body="param { lr_mult: 0 } param { lr_mult: 0 }")
        + fc("f", "c", body="param { lr_mult: 0 }")
        + loss("loss", "f label")
        + layer("hush", "Silence", "c", "")
    )
    lines, _ = debug(text, lambda n: n.forward_backward())
    backward = [line.split(" diff:")[0] for line in lines if "[Backward]" in line]
    assert backward[:-1] == [
        "    [Backward] Layer loss, bottom blob f",
        "    [Backward] Layer f, param blob 1",
    ]


def test_unnamed_tops_are_shown_as_caffe_shows_them():
    text = DATA + fc("f", "data") + layer("loss", "SoftmaxWithLoss", "f label", "")
    lines, _ = debug(text, lambda n: n.forward())
    assert lines[-1].startswith("    [Forward] Layer loss, top blob (automatic) data: ")


def test_no_listener_no_lines_no_harm():
    net = make_net("debug_info: true" + SMALL)
    fill_inputs(net)
    assert net.debug_listener is None
    net.forward_backward()


def test_it_can_be_switched_on_later():
    net = make_net(SMALL)
    fill_inputs(net)
    lines = []
    net.debug_listener = lines.append
    net.forward_backward()
    assert not lines
    net.debug_info = True
    net.forward_backward()
    assert len(lines) == 10 + 8


class Changing:
    """An observer that makes means of gradients at once, as NCCL may."""

    def __init__(self, net, lines):
        self.net, self.lines, self.told = net, lines, []
        net.observer = self

    def before_forward(self, layer):
        pass

    def grad_ready(self, slot, event):
        event.wait()
        self.told.append((slot.index, len(self.lines)))
        self.net.learnable[slot.index].diff[...] = np.nan

    def factors_ready(self, slot):
        pass

    def backward_done(self):
        self.told.append(("done", len(self.lines)))


def test_gradients_are_shown_before_others_are_told_of_them():
    """What is shown is this rank's own, as Caffe's, and in no race with its mean."""
    found = {}
    for observed in (False, True):
        net = make_net("debug_info: true" + SMALL)
        fill_inputs(net)
        found[observed] = lines = []
        net.debug_listener = lines.append
        watcher = Changing(net, lines) if observed else None
        net.forward_backward()
    assert found[True] == found[False]
    order = sorted(net.slots, key=lambda slot: -slot.ready_after)
    whole = len(found[True])
    assert watcher.told == [*((s.index, whole) for s in order), ("done", whole)]


def test_empty_blobs_have_mean_zero():
    text = DATA.replace("dim: 4", "dim: 0") + fc("f", "data")
    lines, _ = debug(text, lambda n: n.forward())
    assert "    [Forward] Layer data, top blob data data: 0" in lines
