"""Drives one layer without a net: build, fill, forward, backward, differentiate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.backend.protocols import Ops
from poseidon_caffe.backend.reference import ReferenceOps
from poseidon_caffe.layers.base import Example, Layer, LayerContext
from poseidon_caffe.layers.memory_data import MemoryData
from poseidon_caffe.layers.registry import known_types, layer_class
from poseidon_caffe.schema.messages import LayerParameter
from poseidon_caffe.schema.text import parse_prototxt
from poseidon_caffe.types import Array, Phase, Shape


@dataclass
class Run:
    """A layer with its blobs, set up and reshaped."""

    layer: Layer
    bottom: list[Blob]
    top: list[Blob]
    weights: list[Array] = field(default_factory=list)

    def reshape(self) -> None:
        self.layer.reshape(self.bottom, self.top)

    def forward(self) -> list[Array]:
        """Tops' data, copied."""
        self.layer.forward(self.bottom, self.top)
        return [blob.cpu_data.copy() for blob in self.top]

    def backward(self, down: Sequence[bool] | None = None) -> list[Array]:
        """Bottoms' diffs, copied; parameter diffs are added to."""
        wanted = [True] * len(self.bottom) if down is None else list(down)
        self.layer.backward(self.top, wanted, self.bottom)
        return [blob.cpu_diff.copy() for blob in self.bottom]

    def set_params(self, arrays: Sequence[Array]) -> None:
        for blob, array in zip(self.layer.blobs, arrays, strict=True):
            blob.mutable_cpu_data[...] = array
            blob.touch()

    def params(self) -> list[Array]:
        return [blob.cpu_data.copy() for blob in self.layer.blobs]

    def param_diffs(self) -> list[Array]:
        return [blob.cpu_diff.copy() for blob in self.layer.blobs]

    def clear_param_diffs(self) -> None:
        for blob in self.layer.blobs:
            blob.clear_diff()

    def set_top_diffs(self, weights: Sequence[Array]) -> None:
        """Gradients of the tops; a loss gets the one number that a net gives it."""
        for blob, weight in zip(self.top, weights, strict=True):
            blob.mutable_cpu_diff[...] = weight


def layer_param(type_name: str, text: str, bottoms: int, tops: int) -> Any:
    """A LayerParameter named "layer" with bottoms b0.. and tops t0.."""
    names = [f'bottom: "b{i}"' for i in range(bottoms)]
    names += [f'top: "t{i}"' for i in range(tops)]
    head = f'name: "layer" type: "{type_name}" {" ".join(names)} '
    return parse_prototxt(head + text, LayerParameter)


def least_tops(cls: type[Layer], bottoms: int) -> int:
    if cls.num_top is not None:
        return cls.num_top
    return bottoms if cls.equal_bottom_top else cls.min_top


def build(
    type_name: str,
    text: str = "",
    bottoms: Sequence[Shape] = (),
    *,
    num_top: int = 0,
    in_place: bool = False,
    ops: Ops | None = None,
    phase: Phase = Phase.TRAIN,
    dtype: type = np.float32,
    channels_last: bool | None = None,
    seed: int = 1,
    stored: np.dtype | None = None,
) -> Run:
    """A layer that is set up and reshaped, its blobs zero.

    Bottoms and tops are ``stored`` so; None: as parameters, in ``dtype``.
    """
    ops = ops or ReferenceOps()
    layout = ops.channels_last if channels_last is None else channels_last
    cls = layer_class(type_name)
    tops = num_top or least_tops(cls, len(bottoms))
    param = layer_param(type_name, text, len(bottoms), tops)
    layer = cls(param, LayerContext(ops, phase, dtype, seed))
    layer.check_arity(len(bottoms), tops)
    kind: dict[str, Any] = {
        "dtype": stored or dtype, "channels_last": layout, "memory": ops.memory
    }  # fmt: skip
    bottom = [Blob(shape, **kind) for shape in bottoms]
    fresh = [Blob(**kind) for _ in range(tops)]
    top = [bottom[0], *fresh[1:]] if in_place else fresh
    layer.setup(bottom, top)
    layer.reshape(bottom, top)
    if isinstance(layer, MemoryData):
        data = np.random.default_rng(3).random(
            (2 * layer.batch_size, *top[0].shape[1:])
        )
        layer.reset(data.astype(np.float32), np.arange(len(data), dtype=np.float32))
    return Run(layer, bottom, top)


def build_example(cls: type[Layer], example: Example, **more: Any) -> Run:
    settings: dict[str, Any] = {"num_top": example.num_top, "phase": example.phase}
    settings["bottoms"] = example.bottoms
    settings.update(more)
    bottoms = settings.pop("bottoms")
    return build(cls.type, example.param, bottoms, **settings)


def inputs(example: Example, seed: int = 7) -> list[Array]:
    """Values for the bottoms, as the example wants them."""
    rng = np.random.default_rng(seed)
    arrays = []
    for i, shape in enumerate(example.bottoms):
        if i in example.labels:
            arrays.append(rng.integers(0, example.labels[i], shape).astype(float))
            continue
        x = rng.standard_normal(shape)
        if example.positive:
            x = np.abs(x) + 0.1
        if example.kink:
            x = np.where(x >= 0, 1, -1) * np.maximum(np.abs(x), example.kink)
        arrays.append(x)
    return arrays


def fill_bottoms(run: Run, arrays: Sequence[Array]) -> None:
    for blob, array in zip(run.bottom, arrays, strict=True):
        blob.mutable_cpu_data[...] = array


def top_weights(run: Run, seed: int = 11) -> list[Array]:
    """A gradient for every top: random, but one number for a loss."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(blob.shape) for blob in run.top]


def differentiable(cls: type[Layer], example: Example) -> list[bool]:
    """Which bottoms can get a gradient."""
    return [i not in example.labels for i in range(len(example.bottoms))]


def all_examples() -> list[Any]:
    """(class, example) pairs of every registered type.

    Left out is a type whose examples need lmdb where that is not installed (a lent
    machine with a GPU).
    """
    found: list[Any] = []
    for name in known_types():
        cls = layer_class(name)
        try:
            found += [(cls, example) for example in cls.examples()]
        except ModuleNotFoundError as error:
            if error.name != "lmdb":
                raise
    return found


def example_id(pair: Any) -> str:
    cls, example = pair
    number = [e.param for e in cls.examples()].index(example.param)
    number = cls.examples().index(example)
    return f"{cls.type}-{number}"
