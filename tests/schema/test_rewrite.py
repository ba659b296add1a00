"""Old files written in today's format, beside what Caffe's tools wrote."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.errors import ParseError, SnapshotError
from poseidon_caffe.schema import messages
from poseidon_caffe.schema.binary import read_binary, write_binary
from poseidon_caffe.schema.rewrite import (
    rewrite_net_binary,
    rewrite_net_text,
    rewrite_solver_text,
)
from poseidon_caffe.schema.text import parse_prototxt, read_prototxt


def test_every_recorded_net(golden, tmp_path):
    sources = sorted((golden / "upgrade").glob("*.prototxt"))
    assert sources
    for source in sources:
        target = tmp_path / source.name
        assert not rewrite_net_text(source, target).current
        ours = read_prototxt(target, messages.NetParameter)
        theirs = read_prototxt(f"{source}.upgraded", messages.NetParameter)
        assert ours == theirs
        again = rewrite_net_text(target, tmp_path / "again")
        assert again.current
        assert not again.notes
        assert (tmp_path / "again").read_bytes() == target.read_bytes()


def test_binary_keeps_the_weights(tmp_path):
    net = parse_prototxt(
        'layers { name: "ip" type: INNER_PRODUCT bottom: "x" top: "y" '
        "inner_product_param { num_output: 2 } "
        "blobs { num: 1 channels: 1 height: 2 width: 2 data: [1, 2, 3, 4] } }",
        messages.NetParameter,
    )
    path = tmp_path / "old.caffemodel"
    write_binary(path, net)
    assert not rewrite_net_binary(path, path).current
    new = read_binary(path, messages.NetParameter)
    assert not new.layers
    assert new.layer[0].type == "InnerProduct"
    np.testing.assert_array_equal(new.layer[0].blobs[0].data, [1, 2, 3, 4])
    assert rewrite_net_binary(path, tmp_path / "again").current
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_solver_type(tmp_path):
    source, target = tmp_path / "s.prototxt", tmp_path / "t.prototxt"
    source.write_text('# old\nnet: "a"\nbase_lr: 0.1\nsolver_type: ADAGRAD\n')
    done = rewrite_solver_text(source, target)
    assert not done.current
    assert len(done.notes) == 1
    assert target.read_text() == 'base_lr: 0.1\nnet: "a"\ntype: "AdaGrad"\n'
    assert rewrite_solver_text(target, target).current


def test_what_cannot_be_read_leaves_no_file(tmp_path):
    bad = tmp_path / "bad.prototxt"
    bad.write_text("layer {")
    for rewrite in (rewrite_net_text, rewrite_solver_text):
        with pytest.raises(ParseError, match="bad"):
            rewrite(bad, tmp_path / "out")
    with pytest.raises(ParseError, match="no such"):
        rewrite_net_binary(tmp_path / "none", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_target_in_no_folder(tmp_path):
    source = tmp_path / "s.prototxt"
    source.write_text("base_lr: 0.1\n")
    with pytest.raises(SnapshotError, match="make the folder"):
        rewrite_solver_text(source, tmp_path / "none" / "t.prototxt")
