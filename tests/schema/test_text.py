from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poseidon_caffe.errors import ParseError
from poseidon_caffe.schema import messages
from poseidon_caffe.schema.text import parse_prototxt, read_prototxt, to_prototxt

GOLDEN = Path(__file__).parents[1] / "golden"
LENET = (GOLDEN / "upgrade/v1_lenet_train_test.prototxt.upgraded").read_text()
NETS = sorted([*(GOLDEN / "nets").glob("*.prototxt"), *(GOLDEN / "upgrade").iterdir()])


@pytest.mark.parametrize("path", NETS, ids=lambda path: path.name)
def test_text_round_trip(path):
    net = read_prototxt(path, messages.NetParameter)
    text = to_prototxt(net)
    assert parse_prototxt(text, messages.NetParameter) == net
    if path.suffix == ".upgraded":
        assert text == path.read_text()  # what Caffe's own tool printed


@pytest.mark.parametrize(
    "text",
    [
        '\ufeffname: "a" # comment\n',
        'name: "a"\r\nforce_backward: false\r\n'.replace("force_backward: false", ""),
        "# Mac of old\rname: 'a'\r",
        'name: "a";',
        'name:\n\n"a"',
        'name: "" "a"',
    ],
)
def test_forms_of_text(text):
    assert parse_prototxt(text, messages.NetParameter).name == "a"


def test_comments_in_other_encodings(tmp_path):
    path = tmp_path / "a.prototxt"
    path.write_bytes('# \xfcber\nname: "a"'.encode("latin-1"))
    assert read_prototxt(path, messages.NetParameter).name == "a"
    path.write_bytes('name: "\xfcber"'.encode("latin-1"))
    with pytest.raises(ParseError, match=r"a\.prototxt:1:7: .*not valid UTF-8"):
        read_prototxt(path, messages.NetParameter)


def test_unicode_strings():
    net = messages.NetParameter(name='über "x"\n')
    assert to_prototxt(net) == 'name: "über \\"x\\"\\n"\n'
    assert parse_prototxt(to_prototxt(net), messages.NetParameter) == net


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x0a\x05LeNet\xa2\x06\x10", "binary file, perhaps a .caffemodel"),
        (b"\x89HDF\r\n\x1a\n\0\0", "an HDF5 file"),
        (b"\x00", "binary file"),
    ],
)
def test_binary_where_text_is_expected(tmp_path, data, said):
    path = tmp_path / "net.prototxt"
    path.write_bytes(data)
    with pytest.raises(ParseError, match=rf"{said}.* of {len(data)} bytes"):
        read_prototxt(path, messages.NetParameter)


def test_empty_text_is_an_empty_message(tmp_path):
    (tmp_path / "a").touch()
    assert (
        read_prototxt(tmp_path / "a", messages.NetParameter) == messages.NetParameter()
    )


def test_deep_nesting():
    for text in ("layer { " * 20_000, "layer { param { " * 20_000, "{" * 20_000):
        with pytest.raises(ParseError):
            parse_prototxt(text, messages.NetParameter)


@settings(max_examples=150, deadline=None)
@given(
    place=st.integers(0, len(LENET)),
    length=st.integers(0, 30),
    insert=st.text(st.sampled_from("{}<>[]:;,#\"'\\ \n\x00abe1.-\udc80é"), max_size=8),
)
def test_damaged_text_gives_a_message_or_a_parse_error(place, length, insert):
    text = LENET[:place] + insert + LENET[place + length :]
    try:
        parse_prototxt(text, messages.NetParameter, "net.prototxt")
    except ParseError as error:
        _check_place(error, text)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60))
def test_garbage_gives_a_message_or_a_parse_error(text):
    try:
        parse_prototxt(text, messages.SolverParameter, "net.prototxt")
    except ParseError as error:
        _check_place(error, text)


def _check_place(error, text):
    assert str(error).startswith("net.prototxt:")
    assert error.path == "net.prototxt"
    assert 0 <= error.line <= text.replace("\r", "\n").count("\n") + 1
    assert error.column >= 0


def test_an_enum_that_is_no_utf8(tmp_path):
    """Protobuf's C tables answer such a name with a SystemError."""
    path = tmp_path / "net.prototxt"
    path.write_bytes(b'layer { name: "x" phase: "\x80" }')
    with pytest.raises(ParseError, match=r"no valid prototxt.*surrogates"):
        read_prototxt(str(path), messages.NetParameter)
