"""Cast insertion: which blobs have 16 bits, and where they meet those of 32.

Layers say by `Layer.storage_of` what they want.  Splits must be inserted before: a
top then has one reader, and no number is converted twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from poseidon_caffe.backend.half import BFLOAT16, HALF
from poseidon_caffe.layers.base import Storage
from poseidon_caffe.layers.registry import layer_class
from poseidon_caffe.schema.messages import LayerParameter, NetParameter

__all__ = ["insert_casts"]

_Top = tuple[int, int]  # (layer index, top index)

_SUFFIXES: Final = {BFLOAT16: "bf16", HALF: "fp16"}
_FLOAT_SUFFIX: Final = "fp32"


@dataclass
class _Graph:
    """Who reads what, and what each layer stores.

    Attributes:
        source: (layer, bottom) -> the top it reads.
        reader: top -> the (layer, bottom) that reads it.
        half: per layer, whether its blobs have 16 bits.
    """

    source: dict[tuple[int, int], _Top] = field(default_factory=dict)
    reader: dict[_Top, tuple[int, int]] = field(default_factory=dict)
    half: list[bool] = field(default_factory=list)


def insert_casts(param: Any, dtype: np.dtype | None) -> tuple[Any, dict[str, np.dtype]]:
    """Let layers that profit by it work in 16 bits, the others in float32.

    Blobs keep their names; one whose last writer works otherwise than the first has
    its name only after the last, and outputs of the net are float32.

    Args:
        param: a net with splits inserted; not changed.
        dtype: what activations are stored in; None: as everything else is.

    Returns:
        The net with casts, and the blobs that are stored in ``dtype``.
    """
    if dtype is None:
        return param, {}
    graph = _connect(param)
    wants = _wants(param, graph)
    for i in range(len(param.layer)):
        wanted = wants[i]
        graph.half.append(_reads_half(param, graph, i) if wanted is None else wanted)
    if not any(graph.half):
        return param, {}
    return _Casts(param, graph, dtype).insert()


def _connect(param: Any) -> _Graph:
    graph, last = _Graph(), dict[str, _Top]()
    for i, layer in enumerate(param.layer):
        for j, blob in enumerate(layer.bottom):
            graph.source[i, j] = last[blob]
            graph.reader[last[blob]] = (i, j)
        for j, blob in enumerate(layer.top):
            last[blob] = (i, j)
    return graph


def _storage(layer: Any) -> Storage:
    """What a layer stores: a loss, whatever computes it, is float32."""
    if any(layer.loss_weight):
        return Storage.FLOAT
    return layer_class(layer.type, where=layer.name).storage_of(layer)


def _wants(param: Any, graph: _Graph) -> list[bool | None]:
    """Per layer, whether 16 bits are wanted of its bottoms; None: either will do."""
    wants: list[bool | None] = [None] * len(param.layer)
    for i in range(len(param.layer) - 1, -1, -1):
        layer = param.layer[i]
        storage = _storage(layer)
        if storage is Storage.MOVED:
            asked = {_reader_wants(graph, wants, (i, j)) for j in range(len(layer.top))}
            wants[i] = asked.pop() if len(asked) == 1 else None
        elif storage is not Storage.BOTTOM:
            wants[i] = storage is Storage.HALF
    return wants


def _reader_wants(graph: _Graph, wants: list[bool | None], top: _Top) -> bool | None:
    """What the reader of a top wants; outputs of the net are float32."""
    reader = graph.reader.get(top)
    return False if reader is None else wants[reader[0]]


def _reads_half(param: Any, graph: _Graph, i: int) -> bool:
    """Whether all that layer ``i`` reads has 16 bits; layers before it are decided."""
    given = [graph.half[graph.source[i, j][0]] for j in _read(param.layer[i])]
    return bool(given) and all(given)


def _read(layer: Any) -> list[int]:
    """The bottoms of which a layer reads the numbers."""
    skipped = layer_class(layer.type, where=layer.name).shape_bottoms
    return [j for j in range(len(layer.bottom)) if j not in skipped]


class _Casts:
    """Writes the net anew, with casts."""

    def __init__(self, param: Any, graph: _Graph, dtype: np.dtype) -> None:
        self._param, self._graph, self._dtype = param, graph, dtype
        self._given = {name for layer in param.layer for name in layer.top}
        self._taken = self._given | {layer.name for layer in param.layer}
        self._out = NetParameter()
        self._out.CopyFrom(param)
        del self._out.layer[:]
        self._dtypes: dict[str, np.dtype] = {}
        self._names: dict[_Top, str] = {}

    def insert(self) -> tuple[Any, dict[str, np.dtype]]:
        """The net, and which blobs have 16 bits."""
        layers = self._param.layer
        for i in range(len(layers) - 1, -1, -1):
            for j in range(len(layers[i].top)):
                self._names[i, j] = self._name(i, j)
        for i, original in enumerate(layers):
            layer = LayerParameter()
            layer.CopyFrom(original)
            for j in range(len(layer.bottom)):
                layer.bottom[j] = self._bottom(i, j)
            for j in range(len(layer.top)):
                layer.top[j] = self._note(self._names[i, j], half=self._graph.half[i])
            self._out.layer.append(layer)
            for j, blob in enumerate(original.top):
                if layer.top[j] != blob and (i, j) not in self._graph.reader:
                    self._cast(layer.top[j], blob, original, half=False)
        return self._out, self._dtypes

    def _name(self, i: int, j: int) -> str:
        """What top ``j`` of layer ``i`` is called; those after it have names."""
        blob, half = self._param.layer[i].top[j], self._graph.half[i]
        reader = self._graph.reader.get((i, j))
        if reader is None:
            return self._fresh(blob, half=True) if half else blob
        if not self._in_place(*reader):
            return str(blob)
        if self._graph.half[reader[0]] == half:
            return self._names[reader]
        return self._fresh(blob, half=half)

    def _in_place(self, i: int, j: int) -> bool:
        """Whether layer ``i`` overwrites its bottom ``j``."""
        layer = self._param.layer[i]
        return j < len(layer.top) and layer.top[j] == layer.bottom[j]

    def _bottom(self, i: int, j: int) -> str:
        """What layer ``i`` reads as bottom ``j``, cast if need be."""
        source = self._graph.source[i, j]
        name, half = self._names[source], self._graph.half[i]
        layer = self._param.layer[i]
        if self._graph.half[source[0]] == half or j not in _read(layer):
            return name
        if self._in_place(i, j):
            top = self._names[i, j]
        else:
            top = self._fresh(layer.bottom[j], half=half)
        self._cast(name, top, layer, half=half)
        return top

    def _cast(self, bottom: str, top: str, beside: Any, *, half: bool) -> None:
        """Convert ``bottom`` to ``top`` for a layer, or for the one that made it."""
        name = self._fresh(top, half=half) if top in self._given else top
        cast = LayerParameter(
            name=name, type="Cast", bottom=[bottom], top=[self._note(top, half=half)]
        )
        if beside.HasField("phase"):
            cast.phase = beside.phase
        self._out.layer.append(cast)

    def _fresh(self, blob: str, *, half: bool) -> str:
        """A name for ``blob`` as that type, which nothing has."""
        stem = f"{blob}_{_SUFFIXES[self._dtype] if half else _FLOAT_SUFFIX}"
        name, number = stem, 1
        while name in self._taken:
            number += 1
            name = f"{stem}_{number}"
        self._taken.add(name)
        return name

    def _note(self, name: str, *, half: bool) -> str:
        if half:
            self._dtypes[name] = self._dtype
        return name
