from __future__ import annotations

import pytest

from poseidon_caffe.errors import ParseError
from poseidon_caffe.schema import messages
from poseidon_caffe.schema.text import parse_prototxt

CASES = [
    # text, line, column, words of the message
    ('layer {\n  nme: "a"\n}', 2, 3, "LayerParameter has no field 'nme'.*mean 'name'"),
    ("layer { name: a }", 1, 15, 'a quoted string is expected: "a"'),
    ('layer { name: "a }\n}', 1, 15, "does not end on its line"),
    ('layer {\n name: "a"\n', 1, 1, "'layer {' that starts here is never closed"),
    ("layer {\n\n param {\n lr_mult: 1\n}", 1, 1, "'layer {'.*never closed"),
    (
        'layer {\n bottom: "a"\nlayer { top: "b" }',
        3,
        1,
        "no field 'layer'; perhaps a '}' is missing: 'layer {' of line 1, column 1",
    ),
    (
        "layer { pooling_param { pool: AVG } }",
        1,
        31,
        "PoolMethod has no value 'AVG'.*mean AVE.*known: MAX, AVE, STOCHASTIC",
    ),
    ("layer { pooling_param { pool: 9 } }", 1, 31, "no value '9'"),
    ('layer { phase: "TEST" }', 1, 16, "Phase are written without quotes: TEST"),
    ("layer { convolution_param { pad: -1 } }", 1, 34, "out of the field's range"),
    ("layer { convolution_param { pad: 1.5 } }", 1, 34, "a whole number"),
    ("layer { loss_weight: much }", 1, 22, "a number is expected"),
    ("layer { propagate_down: yes }", 1, 25, '"true" or "false"'),
    ('name: "a"\nname: "b"', 2, 7, "'name' is given twice; NetParameter takes one"),
    ("layer { }\n}", 2, 1, "closes nothing"),
    ("layer layer", 1, 7, "a block '{ ... }' is expected"),
    ('layer { name "a" }', 1, 14, "a ':' is expected"),
    ("layer { num_output: 3 }", 1, 9, "belongs inside 'convolution_param', 'embed"),
    ("layer { 1: 3 }", 1, 9, "has no field '1'; it has name, type, bottom"),
    ("base_lr: 0.1", 1, 1, "looks like a solver, where a net is expected"),
    ("layer { clip_param { min: 1 } }", 1, 9, "'clip_param' lacks its required field"),
    (r'name: "a\\b\n" input: "C:\data"', 1, 26, r"'\\d' is no escape sequence.*paths"),
    (r'name: "\777"', 1, 8, "no escape sequence"),
    # old and new format mixed up
    ('layers { type: "ReLU" }', 1, 16, "no layer type of the old format 'layers {'"),
    ("layers { type: CONVOLUTON }", 1, 16, "did you mean CONVOLUTION"),
    ("layer { type: RELU }", 1, 15, "RELU is a type of the old format.*'layers {'"),
    ("layers { param { lr_mult: 1 } }", 1, 16, "'param {' belongs to 'layer {'"),
    ("layer { blobs_lr: 1 }", 1, 9, "in 'layer {' write 'param { lr_mult: ... }'"),
    ("layers { input_param { } }", 1, 10, "'input_param' belongs to 'layer {'"),
]


@pytest.mark.parametrize(("text", "line", "column", "said"), CASES)
def test_place_and_reason(text, line, column, said):
    with pytest.raises(ParseError, match=said.replace("{", r"\{")) as caught:
        parse_prototxt(text, messages.NetParameter, "net.prototxt")
    error = caught.value
    assert (error.line, error.column, error.path) == (line, column, "net.prototxt")
    first, excerpt, caret = str(error).split("\n")
    assert first.startswith(f"net.prototxt:{line}:{column}: ")
    assert excerpt == "    " + text.split("\n")[line - 1]
    assert caret == " " * (column + 3) + "^"


def test_net_where_a_solver_is_expected():
    with pytest.raises(ParseError, match="looks like a net, where a solver"):
        parse_prototxt("layer { }", messages.SolverParameter)
    with pytest.raises(ParseError, match="did you mean 'lr_policy'"):
        parse_prototxt('lr_polcy: "fixed"', messages.SolverParameter)


def test_required_field_in_the_right_block():
    text = 'layer { name: "a" }\nlayer {\n clip_param { min: 1 max: 2 } }\nlayer {\n'
    text += ' # clip_param { in a comment, "too\n clip_param { max: 1 } }'
    with pytest.raises(ParseError, match="required field 'min'") as caught:
        parse_prototxt(text, messages.NetParameter)
    assert (caught.value.line, caught.value.column) == (6, 2)


def test_long_lines_are_cut_around_the_place():
    text = "  " * 500 + "nme: 1" + " " * 500
    with pytest.raises(ParseError) as caught:
        parse_prototxt(text, messages.NetParameter)
    _, excerpt, caret = str(caught.value).split("\n")
    assert len(excerpt) <= 80
    assert excerpt[caret.index("^") :].startswith("nme: 1")


def test_tabs_do_not_move_the_caret():
    with pytest.raises(ParseError) as caught:
        parse_prototxt("\t\tnme: 1", messages.NetParameter)
    _, excerpt, caret = str(caught.value).split("\n")
    assert excerpt[caret.index("^") :] == "nme: 1"
