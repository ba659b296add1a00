from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from poseidon_caffe.schema import messages
from poseidon_caffe.schema.text import parse_prototxt

DATA = Path(__file__).parent / "data"


def _schema_rows():
    with (DATA / "caffe_schema.tsv").open() as file:
        return list(csv.DictReader(file, delimiter="\t"))


def _dialect_lines():
    """(path of the message, field, sample values) of the forks' prototxts."""
    rows = []
    for line in (DATA / "dialect_fields.txt").read_text().splitlines():
        use, _, values = line.split(" | ")
        _, owner, field = use.split(" ")
        rows.append((owner, field, values.split()))
    return rows


def _message_at(path):
    first, *rest = path.split(".")
    descriptor = messages.message_class(first).DESCRIPTOR
    for name in rest:
        descriptor = descriptor.fields_by_name[name].message_type
    return messages.message_class(descriptor.full_name)


@pytest.mark.parametrize(
    "row", _schema_rows(), ids=lambda r: f"{r['parent']}.{r['name']}"
)
def test_wire_format_is_caffes(row):
    number = int(row["number"])
    if row["kind"] == "enum":
        assert messages.enum_type(row["parent"]).Value(row["name"]) == number
        return
    field = messages.message_class(row["parent"]).DESCRIPTOR.fields_by_name[row["name"]]
    label, kind = row["type"].split(" ")
    assert field.number == number
    assert field.is_repeated == (label == "repeated")
    assert field.is_required == (label == "required")
    assert field.GetOptions().packed == (row["options"] == "packed")
    if field.message_type is not None:
        assert field.message_type.full_name == f"caffe.{kind}"
    elif field.enum_type is not None:
        assert field.enum_type.full_name == f"caffe.{kind}"
    else:
        names = {
            getattr(field, n): n[5:].lower()
            for n in dir(field)
            if n.startswith("TYPE_")
        }
        assert names[field.type] == kind
    _check_default(field, row["default"])


def _check_default(field, text):
    assert field.has_default_value == (text != "")
    if text == "":
        return
    if field.enum_type is not None:
        assert field.enum_type.values_by_number[field.default_value].name == text
    elif isinstance(field.default_value, bool):
        assert field.default_value == (text == "true")
    elif isinstance(field.default_value, str):
        assert field.default_value == text
    else:
        assert field.default_value == pytest.approx(float(text), rel=1e-6)


def test_no_field_of_caffes_is_ours():
    """What is numbered below the dialects stands in the schema, nothing else."""
    known = {(r["parent"], r["name"]) for r in _schema_rows()}
    parents = {parent.split(".")[0] for parent, _ in known}
    for name in parents - {"Phase"}:
        for field in messages.message_class(name).DESCRIPTOR.fields:
            if field.number < messages.FIRST_DIALECT_NUMBER:
                assert (name, field.name) in known
            else:
                assert (name, field.name) not in known


@pytest.mark.parametrize(("owner", "field", "values"), _dialect_lines())
def test_fields_of_the_forks_parse(owner, field, values):
    message = _message_at(owner)
    if "=" in field:
        name, value = field.split("=")
        text = f"{name}: {value}"
    elif values == ["{}"]:
        text = f"{field} {{ }}"
    else:
        text = ""
        for value in values:
            parse_prototxt(f"{field}: {value}", message)
        text = f"{field}: {values[0]}"
    parse_prototxt(text, message)


def test_dialect_fields_are_named_with_their_place():
    net = parse_prototxt(
        """
        bn_stats_batch_size: 4
        layer { name: "a" }
        layer { quantization_param { bw_params: 8 } convolution_param { relu: true } }
        """,
        messages.NetParameter,
    )
    assert list(messages.dialect_fields(net)) == [
        "layer[1].convolution_param.relu",
        "layer[1].quantization_param",
        "bn_stats_batch_size",
    ]


def test_enums_and_names():
    assert (messages.TRAIN, messages.TEST) == (0, 1)
    assert messages.Phase.TRAIN == 0
    assert messages.Phase.Name(1) == "TEST"
    assert messages.PoolingParameter.AVE == 1
    assert messages.enum_name(messages.PoolingParameter(pool=1), "pool") == "AVE"
    assert messages.enum_name(messages.DataParameter(), "backend") == "LEVELDB"
    assert "LayerParameter" in messages.message_names()
    assert "LayerParameter" in dir(messages)


@pytest.mark.parametrize(
    ("name", "hint"), [("NetParmeter", "NetParameter"), ("Phas", ""), ("Datum.X", "")]
)
def test_unknown_message(name, hint):
    with pytest.raises(AttributeError, match=f"no message '{name}'.*{hint}"):
        messages.message_class(name)
    with pytest.raises(AttributeError, match="no enum"):
        messages.enum_type("PoolingParameter.PolMethod")
    with pytest.raises(AttributeError):
        messages._nothing  # noqa: B018


def test_pool_is_private():
    """Another caffe.proto in the default pool must not collide with ours."""
    program = """
from google.protobuf import descriptor_pb2, descriptor_pool
other = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe")
other.message_type.add(name="NetParameter")
from poseidon_caffe.schema.messages import NetParameter
descriptor_pool.Default().AddSerializedFile(other.SerializeToString())
NetParameter(name="x").layer.add()
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_missing_descriptor_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(messages.importlib.resources, "files", lambda _: tmp_path)
    # Past the cache, which other tests go on using.
    with pytest.raises(RuntimeError, match=r"caffe\.desc.*make install"):
        messages._file.__wrapped__()
