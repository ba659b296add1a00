"""Writes docs/layers/: a page for each layer type, and an index.

Usage: python scripts/layer_docs.py [FOLDER]

Pages come from the types' docstrings, the fields of their messages in
proto/caffe.proto, and their own examples; they are never edited by hand.
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import FieldDescriptor as Field

from poseidon_caffe.layers.base import Example, Layer
from poseidon_caffe.layers.registry import known_types, layer_class
from poseidon_caffe.schema import messages
from poseidon_caffe.schema.text import parse_prototxt, to_prototxt

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "layers"
FORKS = 10001  # fields and values from here on are those of Caffe's forks

KINDS = {
    "Data": (
        *("Data", "DummyData", "HDF5Data", "HDF5Output", "ImageData", "Input"),
        *("MemoryData", "Parameter", "WindowData"),
    ),
    "Vision": ("Convolution", "Crop", "Deconvolution", "Im2col", "Pooling", "SPP"),
    "Recurrent": ("LSTM", "LSTMUnit", "RNN"),
    "Common": ("Bias", "Dropout", "Embed", "InnerProduct", "Scale"),
    "Normalization": ("BatchNorm", "LRN", "MVN"),
    "Activation": (
        *("AbsVal", "BNLL", "Clip", "ELU", "Exp", "Log", "PReLU", "Power", "ReLU"),
        *("Sigmoid", "Swish", "TanH", "Threshold"),
    ),
    "Shape and arithmetic": (
        *("ArgMax", "BatchReindex", "Cast", "Concat", "Eltwise", "Filter", "Flatten"),
        *("Python", "Reduction", "Reshape", "Silence", "Slice", "Softmax", "Split"),
        "Tile",
    ),
    "Loss and score": (
        *("Accuracy", "ContrastiveLoss", "EuclideanLoss", "HingeLoss", "InfogainLoss"),
        *("MultinomialLogisticLoss", "SigmoidCrossEntropyLoss", "SoftmaxWithLoss"),
    ),
}
MESSAGES = {
    "Data": ("data_param", "transform_param"),
    "Deconvolution": ("convolution_param",),
    "ImageData": ("image_data_param", "transform_param"),
    "Im2col": ("convolution_param",),
    "InfogainLoss": ("infogain_loss_param", "loss_param"),
    "LSTM": ("recurrent_param",),
    "MemoryData": ("memory_data_param", "transform_param"),
    "RNN": ("recurrent_param",),
    "SigmoidCrossEntropyLoss": ("loss_param",),
    "SoftmaxWithLoss": ("softmax_param", "loss_param"),
    "WindowData": ("window_data_param", "transform_param"),
}
"""Messages of the types that have others than the one of their own name."""

SECTION = re.compile(
    r"(Bottoms?, tops?|Bottoms?|Tops?|Params|Attributes|Caffe parity):"
)
NAMES = {
    "Bottom": ("Bottoms",),
    "Top": ("Tops",),
    "Bottom, top": ("Bottoms", "Tops"),
    "Params": ("Parameter blobs",),
    "Attributes": (),
    "Caffe parity": ("Caffe parity",),
}
HEADINGS = ("Bottoms", "Tops", "Parameter blobs")
HEADER = (
    "<!-- Written by scripts/layer_docs.py (`make docs`); edit the docstring. -->\n"
)


def sections(docstring: str) -> dict[str, str]:
    """The docstring by heading; what has none is under "" (paragraphs)."""
    found: dict[str, list[str]] = {"": []}
    into: tuple[str, ...] = ("",)
    for paragraph in inspect.cleandoc(docstring).split("\n\n"):
        if "Caffe parity" not in into:
            into = ("",)
        fresh = True
        for line in paragraph.splitlines():
            match = SECTION.match(line)
            text = line
            if match:
                into = NAMES[match[1].replace("oms", "om").replace("ops", "op")]
                text, fresh = line[match.end() :].strip(), True
            for name in into:
                lines = found.setdefault(name, [])
                lines += ["", text] if fresh and lines else [text]
            fresh = False
    return {name: markdown("\n".join(lines).strip()) for name, lines in found.items()}


def markdown(text: str) -> str:
    """Double backquotes become single ones; stars outside them are no emphasis."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text).replace("``", "`")
    parts = re.split(r"(`[^`]*`)", text)
    return re.sub(
        "(?<=[.;,:]) +",
        " ",
        "".join(
            part
            if part.startswith("`")
            else part.replace("*", r"\*").replace("<", "&lt;")
            for part in parts
        ),
    )


def own_messages(name: str) -> list[str]:
    """Fields of LayerParameter that hold the settings of a type."""
    if name in MESSAGES:
        return list(MESSAGES[name])
    fields = messages.LayerParameter.DESCRIPTOR.fields_by_name
    wanted = f"{name.lower()}param"
    return [field for field in fields if field.replace("_", "") == wanted]


def table(field_name: str) -> str:
    """The fields of one message."""
    descriptor = messages.LayerParameter.DESCRIPTOR.fields_by_name[field_name]
    lines = [
        f"`{field_name}` ({descriptor.message_type.name}):",
        "",
        "| Field | Type | Default |",
        "| --- | --- | --- |",
    ]
    lines += [
        f"| `{field.name}` | {type_of(field)} | {default_of(field)} |"
        for field in descriptor.message_type.fields
        if field.number < FORKS
    ]
    return "\n".join(lines) + "\n"


SCALARS = {
    number: name.removeprefix("TYPE_").lower()
    for name, number in vars(Field).items()
    if name.startswith("TYPE_")
}


def type_of(field: Any) -> str:
    """``repeated uint32``, or the names of an enum."""
    if field.message_type is not None:
        text = field.message_type.name
        if text == "FillerParameter":
            text = "[FillerParameter](README.md#fillers)"
    elif field.enum_type is not None:
        values = [each for each in field.enum_type.values if each.number < FORKS]
        text = ", ".join(f"`{each.name}`" for each in values)
    else:
        text = SCALARS[field.type]
    return f"repeated {text}" if field.is_repeated else text


def default_of(field: Any) -> str:
    """The default as a prototxt writes it; empty when there is none."""
    if field.is_repeated or field.message_type is not None:
        return ""
    value = field.default_value
    if field.enum_type is not None:
        return f"`{field.enum_type.values_by_number[value].name}`"
    if not field.has_default_value:
        return "required" if field.is_required else ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, float):
        return f"`{value:g}`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


def example_text(name: str, cls: type[Layer], example: Example) -> str:
    """One example as a layer of a prototxt."""
    count = len(example.bottoms)
    least = count if cls.equal_bottom_top else cls.min_top
    tops = example.num_top or (cls.num_top if cls.num_top is not None else least)
    scored = name.endswith("Loss") or name == "Accuracy"
    bottoms = ["data", "label"] if scored and example.labels and count == 2 else []
    bottoms = bottoms or [f"in{i + 1}" if count > 1 else "in" for i in range(count)]
    layer = parse_prototxt(example.param, messages.LayerParameter)
    layer.name, layer.type = name.lower(), name
    layer.bottom.extend(bottoms)
    layer.top.extend([f"out{i + 1}" if tops > 1 else "out" for i in range(tops)])
    # Examples may have made files of their own.
    body = re.sub(r'"/[^"]*/([^"/]+)"', r'"\1"', to_prototxt(layer))
    shapes = [
        f"# {name}: {' x '.join(map(str, shape)) or 'a scalar'}\n"
        for name, shape in zip(bottoms, example.bottoms, strict=True)
    ]
    return "".join(shapes) + "layer {\n" + re.sub(r"(?m)^(?=.)", "  ", body) + "}\n"


def page(name: str) -> str:
    """The page of one type."""
    cls = layer_class(name)
    found = sections(cls.__doc__ or "")
    fields = own_messages(name)
    parts = [HEADER, f"# {name}\n", found[""] + "\n"]
    for heading in HEADINGS:
        parts += [f"## {heading}\n", found.get(heading, "None.") + "\n"]
    parts += ["## Settings\n", *(table(field) for field in fields)]
    if not fields:
        parts.append("None of its own.\n")
    parity = found["Caffe parity"]
    parity = parity[:1].upper() + parity[1:]
    parts += ["## Caffe parity\n", f"{parity}\n", "## Example\n"]
    parts.append(f"```\n{example_text(name, cls, cls.examples()[0])}```\n")
    return "\n".join(parts)


def summary(name: str) -> str:
    """The first sentence of a type's docstring."""
    first = sections(layer_class(name).__doc__ or "")[""].split("\n\n")[0]
    return re.split(r"(?<=[.;])\s", " ".join(first.split()) + " ")[0].rstrip(" ;:")


def index() -> str:
    """The list of all types by kind, and what they share."""
    known = list(known_types())
    listed = {name for names in KINDS.values() for name in names}
    kinds = {**KINDS, "Others": tuple(n for n in known if n not in listed)}
    head = (
        f"The {len(known)} layer types by kind. Shapes are Caffe's: N images of C "
        "channels,\nheight H and width W. Types that packages add "
        "(entry point `poseidon_caffe.layers`)\nand old names are in "
        "[from-caffe.md](../from-caffe.md).\n"
    )
    parts = [HEADER, "# Layers\n", head]
    for kind, names in kinds.items():
        present = [name for name in names if name in known]
        if present:
            lines = [f"- [{name}]({name}.md): {summary(name)}" for name in present]
            parts += [f"## {kind}\n", "\n".join(lines) + "\n"]
    parts += ["## Fillers\n", fillers()]
    return "\n".join(parts)


def fillers() -> str:
    """The fields of FillerParameter."""
    lines = ["| Field | Type | Default |", "| --- | --- | --- |"]
    lines += [
        f"| `{field.name}` | {type_of(field)} | {default_of(field)} |"
        for field in messages.FillerParameter.DESCRIPTOR.fields
        if field.number < FORKS
    ]
    from poseidon_caffe.layers.fillers import FILLERS

    known = ", ".join(f"`{name}`" for name in sorted(FILLERS))
    return f"How a parameter gets its first values; `type` is one of {known}.\n\n" + (
        "\n".join(lines) + "\n"
    )


def write(folder: Path) -> None:
    """Write all pages, and remove those of types that are gone."""
    folder.mkdir(parents=True, exist_ok=True)
    pages = {f"{name}.md": page(name) for name in known_types()}
    pages["README.md"] = index()
    for path in folder.glob("*.md"):
        if path.name not in pages:
            path.unlink()
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
