from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poseidon_caffe.schema import scan

TEXT = """
# { not a block
layer { name: "{" param { } param: { lr_mult: 1 } }
layer <
  include: { phase: TRAIN
"""


def test_paths():
    assert [block.path for block, opened in scan.blocks(TEXT) if opened] == [
        "layer[0]",
        "layer[0].param[0]",
        "layer[0].param[1]",
        "layer[1]",
        "layer[1].include[0]",
    ]


def test_open_blocks():
    found = scan.open_blocks(TEXT)
    assert [block.path for block in found] == ["layer[1]", "layer[1].include[0]"]
    assert [scan.position(TEXT, block.start) for block in found] == [(4, 1), (5, 3)]
    (layer,) = scan.open_blocks(TEXT, TEXT.index("param"))
    assert layer.start == TEXT.index("layer")


def test_closing_too_often():
    assert scan.open_blocks("} } a { } }") == []


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        (r'a: "\n\t\"\\\'\x41\101\7\47\u00fc" # \d', None),
        (r"a: 'x' b: 'x\y'", 12),
        (r'a: "\\\d"', 6),
        (r'a: "\400"', 4),
        (r'a: "\8"', 4),
    ],
)
def test_bad_escape(text, offset):
    assert scan.bad_escape(text) == offset


@given(st.text(st.sampled_from("{}<>:#\"'\\ \nab")))
def test_never_fails(text):
    scan.bad_escape(text)
    for block in scan.open_blocks(text):
        line, column = scan.position(text, block.start)
        assert line >= 1
        assert column >= 1
