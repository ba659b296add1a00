"""docs/layers/ is what scripts/layer_docs.py writes now, and no page lacks a part."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from poseidon_caffe.layers.registry import known_types
from poseidon_caffe.schema import messages
from poseidon_caffe.schema.text import parse_prototxt

ROOT = Path(__file__).resolve().parent.parent
COMMITTED = ROOT / "docs" / "layers"
PARTS = ("Bottoms", "Tops", "Parameter blobs", "Settings", "Caffe parity", "Example")


@pytest.fixture(scope="module")
def script():
    """scripts/layer_docs.py as a module."""
    path = ROOT / "scripts" / "layer_docs.py"
    spec = importlib.util.spec_from_file_location("layer_docs", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def fresh(script, tmp_path_factory):
    """Folder of pages written now."""
    folder = tmp_path_factory.mktemp("layers")
    script.write(folder)
    return folder


def test_committed_pages_are_current(fresh):
    names = {path.name for path in fresh.iterdir()}
    assert {path.name for path in COMMITTED.iterdir()} == names, "run make docs"
    old = [n for n in names if (fresh / n).read_text() != (COMMITTED / n).read_text()]
    assert not old, "run make docs"


@pytest.mark.parametrize("name", known_types())
def test_page_has_every_part(fresh, name):
    text = (fresh / f"{name}.md").read_text()
    parts = text.split("\n## ")
    assert [part.split("\n")[0] for part in parts[1:]] == list(PARTS)
    summary = parts[0].partition(f"# {name}\n")[2]
    assert all(part.split("\n", 1)[1].strip() for part in parts[1:])
    assert len(summary.strip()) > 5
    example = text.split("```")[1]
    layer = parse_prototxt(example, messages.NetParameter).layer[0]
    assert layer.type == name
    assert "/tmp" not in example


def test_index_lists_every_type_once(fresh, script):
    text = (fresh / "README.md").read_text()
    for name in known_types():
        assert text.count(f"]({name}.md)") == 1
    listed = [name for names in script.KINDS.values() for name in names]
    assert sorted(listed) == sorted(set(listed))


def test_sections_of_a_docstring(script):
    found = script.sections(
        "y = x * 2.\n\n    Bottoms, tops: one\n    of ``any`` shape.\n    Params: w.\n"
        "\n    More.\n\n    Caffe parity: exact,\n    *more*.\n\n    Also this.\n"
    )
    assert found[""] == "y = x \\* 2.\n\nMore."
    assert found["Bottoms"] == found["Tops"] == "one\nof `any` shape."
    assert found["Parameter blobs"] == "w."
    assert found["Caffe parity"] == "exact,\n\\*more\\*.\n\nAlso this."
