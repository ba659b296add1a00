"""Construction lines, beside those that Caffe wrote for the same nets."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest

from poseidon_caffe.backend.select import get_ops
from poseidon_caffe.net.net import Net
from poseidon_caffe.report.glog import Glog
from poseidon_caffe.report.net_lines import log_net, shape_text
from poseidon_caffe.schema.messages import NetParameter
from poseidon_caffe.schema.text import parse_prototxt
from poseidon_caffe.types import Phase

GOLDEN = Path(__file__).parent.parent / "golden" / "train" / "lenet_reference.log"
HEAD = "net.cpp:53] Initializing net from parameters: "
PREFIX = re.compile(r"^I\d+ [\d:.]+ +\d+ (\S+\])")
OTHERS = ("db_lmdb.cpp", "data_layer.cpp")


def blocks(text: str) -> list[tuple[str, list[str]]]:
    """(prototxt, lines after it) of each net in a log, without times."""
    found = []
    for part in text.split("Initializing net from parameters: \n")[1:]:
        body = part.split("Network initialization done.")[0].splitlines()
        start = next(i for i, line in enumerate(body) if PREFIX.match(line))
        lines = [PREFIX.sub(r"\1", line) for line in body[start:]]
        found.append(("\n".join(body[:start]), lines))
    return found


def without_inner_layers(lines: list[str]) -> list[str]:
    """Drop what the database and the softmax inside the loss layer log."""
    kept: list[str] = []
    made: set[str] = set()
    for line in lines:
        if line.startswith(OTHERS) or (line in made and "Creating layer" in line):
            continue
        made.add(line)
        kept.append(line)
    return kept


def as_dummy(param, batch: int):
    """The net with its LMDB replaced by constants of the same shape."""
    net = NetParameter()
    net.CopyFrom(param)
    net.ClearField("state")
    layer = next(each for each in net.layer if each.type == "Data")
    layer.type = "DummyData"
    layer.ClearField("data_param")
    layer.ClearField("transform_param")
    layer.dummy_data_param.shape.add().dim.extend([batch, 1, 28, 28])
    layer.dummy_data_param.shape.add().dim.extend([batch])
    return net


@pytest.mark.parametrize("index", [0, 1], ids=["train", "test"])
def test_lenet_reads_as_caffes(index):
    text, recorded = blocks(GOLDEN.read_text())[index]
    param = parse_prototxt(text, NetParameter)
    batch = int(
        next(re.search(r"shape: (\d+)", x) for x in recorded if "shape" in x)[1]
    )
    dummy = as_dummy(param, batch)
    phase = (Phase.TRAIN, Phase.TEST)[index]
    net = Net(dummy, ops=get_ops("reference"), phase=phase)
    stream = io.StringIO()
    log_net(Glog(stream), net)
    net.close()
    [(shown, lines)] = blocks(stream.getvalue())
    assert lines == without_inner_layers(recorded)
    # The prototxt above them is the net as written: no splits, no filled-in phases.
    assert parse_prototxt(shown, NetParameter).layer == dummy.layer
    assert stream.getvalue().splitlines()[-1].endswith("Network initialization done.")


def test_shapes():
    assert shape_text((64, 1, 28, 28), 50176) == "64 1 28 28 (50176)"
    assert shape_text((), 1) == "(1)"
