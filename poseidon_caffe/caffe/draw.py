"""``caffe.draw``: pictures of nets by Graphviz.

Layers are boxes, coloured by type and named with their geometry; blobs are grey
octagons, but for those that no layer reads; edges out of a layer tell its outputs.
Needs the package pydot, and for anything but the text of the graph (``.dot``,
``.gv``, ``.raw``) Graphviz's program ``dot``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from poseidon_caffe.caffe.value_errors import LayerValueError
from poseidon_caffe.errors import PoseidonError, UsageError
from poseidon_caffe.schema.atomic import atomic_write
from poseidon_caffe.schema.messages import NetParameter, enum_name, message_class
from poseidon_caffe.schema.upgrade import upgrade_net

if TYPE_CHECKING:
    import pydot

__all__ = [
    "BLOB_STYLE",
    "LAYER_STYLE_DEFAULT",
    "NEURON_LAYER_STYLE",
    "choose_color_by_layertype",
    "draw_net",
    "draw_net_to_file",
    "get_edge_label",
    "get_layer_label",
    "get_layer_lr_mult",
    "get_pooling_types_dict",
    "get_pydot_graph",
]

LAYER_STYLE_DEFAULT: Final[Mapping[str, str]] = {
    "shape": "record",
    "fillcolor": "#6495ED",
    "style": "filled",
}
NEURON_LAYER_STYLE: Final[Mapping[str, str]] = {
    "shape": "record",
    "fillcolor": "#90EE90",
    "style": "filled",
}
"""Of layers that work in place."""
BLOB_STYLE: Final[Mapping[str, str]] = {
    "shape": "octagon",
    "fillcolor": "#E0E0E0",
    "style": "filled",
}

_COLORS: Final[Mapping[str, str]] = {
    "Convolution": "#FF5050",
    "Deconvolution": "#FF5050",
    "Pooling": "#FF9900",
    "InnerProduct": "#CC33FF",
}
_LEARNING: Final = ("Convolution", "Deconvolution", "InnerProduct")
_TEXT: Final = ("dot", "gv", "raw")
_NO_LABEL: Final = '""'
_KEYWORDS: Final = ("digraph", "edge", "graph", "node", "strict", "subgraph")
_MARKS: Final = re.compile(r'(["{}|<>])')  # have a meaning in the text of a box


def get_pooling_types_dict() -> dict[int, str]:
    """Names of the ways of pooling by their number: ``{0: "MAX", ...}``."""
    descriptor = message_class("PoolingParameter").DESCRIPTOR
    methods = descriptor.enum_types_by_name["PoolMethod"].values
    return {method.number: method.name for method in methods}


def get_edge_label(layer: Any) -> str:
    """What stands at the edges out of a layer: batch size, channels or outputs."""
    if layer.type == "Data":
        return f"Batch {layer.data_param.batch_size}"
    if layer.type in ("Convolution", "Deconvolution"):
        return str(layer.convolution_param.num_output)
    if layer.type == "InnerProduct":
        return str(layer.inner_product_param.num_output)
    return _NO_LABEL


def get_layer_lr_mult(layer: Any) -> tuple[float, float]:
    """Factors of the learning rate of a layer's weights and bias.

    Raises:
        LayerValueError: not a convolution or InnerProduct, or more than two
            parameters; a ValueError too.
    """
    if layer.type not in _LEARNING:
        msg = f"{layer.type} layers have no learning rate multipliers to be drawn"
        raise LayerValueError(msg)
    factors = [float(param.lr_mult) for param in layer.param]
    if len(factors) > 2:
        msg = f"layer '{layer.name}': {len(factors)} 'param', expected at most 2"
        raise LayerValueError(msg)
    weight, bias = (*factors, 1.0, 1.0)[:2]
    return weight, bias


def get_layer_label(layer: Any, rankdir: str, display_lrm: bool = False) -> str:  # noqa: FBT001, FBT002 - pycaffe's signature
    """What stands in a layer's box, in double quotes.

    Args:
        layer: a LayerParameter.
        rankdir: direction of the picture; vertical ones have long lines.
        display_lrm: tell the factors of the learning rate too, unless both are 0.
    """
    separator = " " if rankdir in ("TB", "BT") else r"\n"
    kind = layer.type
    if kind == "Pooling":
        kind += f" {enum_name(layer.pooling_param, 'pool')}"
    words = [_MARKS.sub(r"\\\1", layer.name), f"({kind})", *_geometry(layer)]
    if display_lrm and layer.type in _LEARNING:
        factors = get_layer_lr_mult(layer)
        if any(factors):
            words.append("lr mult: {:.1f}, {:.1f}".format(*factors))
    return f'"{separator.join(words)}"'


def _geometry(layer: Any) -> list[str]:
    """Kernel, stride and padding of layers that slide a window."""
    if layer.type == "Pooling":
        own = layer.pooling_param
        sizes = (own.kernel_size, own.stride, own.pad)
    elif layer.type in ("Convolution", "Deconvolution"):
        own = layer.convolution_param
        sizes = (
            own.kernel_size[0] if own.kernel_size else 1,
            own.stride[0] if own.stride else 1,
            own.pad[0] if own.pad else 0,
        )
    else:
        return []
    names = ("kernel size", "stride", "pad")
    return [f"{name}: {size}" for name, size in zip(names, sizes, strict=True)]


def choose_color_by_layertype(layertype: str) -> str:
    """Colour of a box, such as ``#FF5050`` for convolutions."""
    return _COLORS.get(layertype, LAYER_STYLE_DEFAULT["fillcolor"])


def _is_in(layer: Any, phase: int | None) -> bool:
    """Whether a layer is part of the net in ``phase``, going by its phase rules."""
    if phase is None:
        return True
    if layer.include and layer.exclude:
        msg = f"layer '{layer.name}' has both include and exclude rules"
        raise LayerValueError(msg)
    if layer.include:
        return any(rule.phase == phase for rule in layer.include)
    return all(rule.phase != phase for rule in layer.exclude)


def _pydot() -> Any:
    try:
        import pydot
    except ImportError as error:
        raise PoseidonError(
            "pictures of nets need the package pydot, which is not installed: "
            "`pip install poseidon-caffe[draw]`"
        ) from error
    return pydot


def _name(text: str) -> str:
    """A name as Graphviz takes it: in quotes unless it is plain."""
    if text.isidentifier() and text.isascii() and text.lower() not in _KEYWORDS:
        return text
    escaped = text.replace("\\", r"\\").replace('"', r"\"")
    return f'"{escaped}"'


def get_pydot_graph(
    caffe_net: Any,
    rankdir: str,
    label_edges: bool = True,  # noqa: FBT001, FBT002 - pycaffe's signature
    phase: int | None = None,
    display_lrm: bool = False,  # noqa: FBT001, FBT002
) -> pydot.Dot:
    """The graph of a net.

    Caffe parity: nodes, edges, labels and colours are Caffe's. Layers in old formats
    are drawn too (Caffe leaves them out).

    Args:
        caffe_net: a NetParameter.
        rankdir: direction: LR, RL, TB or BT.
        label_edges: tell the outputs at the edges.
        phase: ``caffe.TRAIN`` or ``caffe.TEST`` for that net alone; None for all.
        display_lrm: tell the factors of the learning rate.

    Raises:
        PoseidonError: pydot is not installed, or the net contradicts itself.
    """
    dot = _pydot()
    title = _name(caffe_net.name or "Net")
    graph = dot.Dot(title, graph_type="digraph", rankdir=rankdir)
    nodes: dict[str, Any] = {}
    edges: list[tuple[str, str, str]] = []
    for layer in _layers(caffe_net):
        if not _is_in(layer, phase):
            continue
        key = f"{layer.name}_{layer.type}"
        label = get_layer_label(layer, rankdir, display_lrm)
        nodes[key] = dot.Node(label, **_style(layer))
        for bottom in layer.bottom:
            nodes[f"{bottom}_blob"] = dot.Node(_name(bottom), **BLOB_STYLE)
            edges.append((f"{bottom}_blob", key, _NO_LABEL))
        for top in layer.top:
            # Whoever reads it gives it its style.
            nodes[f"{top}_blob"] = dot.Node(_name(top))
            told = get_edge_label(layer) if label_edges else _NO_LABEL
            edges.append((key, f"{top}_blob", told))
    for node in nodes.values():
        graph.add_node(node)
    for source, target, label in edges:
        graph.add_edge(dot.Edge(nodes[source], nodes[target], label=label))
    result: pydot.Dot = graph
    return result


def _layers(caffe_net: Any) -> Any:
    """The layers, in today's format."""
    if not len(caffe_net.layers):
        return caffe_net.layer
    net = NetParameter()
    net.CopyFrom(caffe_net)
    upgrade_net(net)
    return net.layer


def _style(layer: Any) -> dict[str, str]:
    """Shape and colour of a layer's box."""
    if len(layer.bottom) == 1 and list(layer.bottom) == list(layer.top):
        return dict(NEURON_LAYER_STYLE)
    color = choose_color_by_layertype(layer.type)
    return {**LAYER_STYLE_DEFAULT, "fillcolor": color}


def draw_net(
    caffe_net: Any,
    rankdir: str,
    ext: str = "png",
    phase: int | None = None,
    display_lrm: bool = False,  # noqa: FBT001, FBT002 - pycaffe's signature
) -> bytes:
    """The picture of a net.

    Args:
        caffe_net: a NetParameter.
        rankdir: direction: LR, RL, TB or BT.
        ext: format by its usual ending: png, svg, pdf, ...; "dot", "gv" and "raw" are
            the graph's text, which needs no Graphviz.
        phase: ``caffe.TRAIN`` or ``caffe.TEST`` for that net alone; None for all.
        display_lrm: tell the factors of the learning rate.

    Returns:
        The contents of a file of that format.

    Raises:
        UsageError: Graphviz's ``dot`` is not installed, or does not know the format.
        PoseidonError: as `get_pydot_graph`.
    """
    graph = get_pydot_graph(caffe_net, rankdir, phase=phase, display_lrm=display_lrm)
    text = graph.to_string().encode()
    return text if ext in _TEXT else _rendered(text, ext)


def _rendered(text: bytes, ext: str) -> bytes:
    program = shutil.which("dot")
    if program is None:
        raise UsageError(
            f"drawing a net as {ext} needs Graphviz's program dot, which is not on the "
            "PATH: `apt-get install graphviz` or the like; or write a .dot file and "
            "draw that where Graphviz is"
        )
    done = subprocess.run(  # noqa: S603 - no shell
        [program, f"-T{ext}"], input=text, capture_output=True, check=False
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise UsageError(f"Graphviz cannot draw the net as {ext!r}: {said}")
    return done.stdout


def draw_net_to_file(
    caffe_net: Any,
    filename: str | os.PathLike[str],
    rankdir: str = "LR",
    phase: int | None = None,
    display_lrm: bool = False,  # noqa: FBT001, FBT002 - pycaffe's signature
) -> None:
    """Write the picture of a net, in the format that the file's name ends with.

    Args:
        caffe_net: a NetParameter.
        filename: the file, for example net.png, net.svg or net.dot.
        rankdir: direction: LR, RL, TB or BT.
        phase: ``caffe.TRAIN`` or ``caffe.TEST`` for that net alone; None for all.
        display_lrm: tell the factors of the learning rate.

    Raises:
        UsageError: a name without ending, and as `draw_net`.
        SnapshotError: the file cannot be written.
    """
    name = os.path.basename(os.fspath(filename))  # noqa: PTH119 - a str it stays
    _, dot, ext = name.rpartition(".")
    if not dot or not ext:
        msg = f"{os.fspath(filename)}: the name must end in a format, such as .png"
        raise UsageError(msg)
    picture = draw_net(caffe_net, rankdir, ext.lower(), phase, display_lrm)
    atomic_write(filename, picture)
