"""Poseidon's side: ``python -m benchmarks.layers.poseidon_worker THREADS``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from poseidon_caffe.cli.threads import prepare

if TYPE_CHECKING:
    from benchmarks.layers.cases import Case


def build(case: Case, threads: int) -> tuple[Any, list[Any], list[Any]]:
    """(layer, bottoms, tops), filled."""
    import numpy as np

    from benchmarks.layers.data import arrays
    from benchmarks.layers.sources import with_sources
    from poseidon_caffe.backend.blob import Blob
    from poseidon_caffe.backend.select import get_ops
    from poseidon_caffe.layers.base import LayerContext
    from poseidon_caffe.layers.registry import layer_class
    from poseidon_caffe.schema.messages import LayerParameter
    from poseidon_caffe.schema.text import parse_prototxt

    ops = get_ops("cpu", threads)
    cls = layer_class(case.type)
    least = cls.num_top or (len(case.bottoms) if cls.equal_bottom_top else cls.min_top)
    tops = case.num_top or least
    names = [f'bottom: "b{i}"' for i in range(len(case.bottoms))]
    names += [f'top: "t{i}"' for i in range(tops)]
    body = with_sources(case.text)
    text = f'name: "layer" type: "{case.type}" {" ".join(names)} {body}'
    layer = cls(parse_prototxt(text, LayerParameter), LayerContext(ops))
    layout = ops.channels_last
    bottom = [Blob(shape, channels_last=layout) for shape in case.bottoms]
    top = [Blob(channels_last=layout) for _ in range(tops)]
    layer.setup(bottom, top)
    layer.reshape(bottom, top)
    if case.type == "MemoryData":
        layer.reset(np.zeros((64, 3, 227, 227), "f"), np.zeros(64, "f"))
    for blob, array in zip(bottom, arrays(case), strict=True):
        blob.data[...] = array
    for blob in top:
        blob.diff[...] = 0.01 if blob.count > 1 else 1.0
    return layer, bottom, top


def steps(case: Case, threads: int) -> dict[str, tuple[Callable[[], None], float]]:
    """Forward and backward, each with the bytes that it cannot but move."""
    layer, bottom, top = build(case, threads)
    size = [4.0 * blob.count for blob in bottom]
    out = sum(4.0 * blob.count for blob in top)
    params = sum(4.0 * blob.count for blob in layer.blobs)
    down = [i not in case.labels and i not in case.ones for i in range(len(bottom))]
    if case.type in {"Crop", "InfogainLoss"}:
        down[-1] = False

    def forward() -> None:
        layer.forward(bottom, top)

    def backward() -> None:
        layer.backward(top, down, bottom)

    forward()
    given = sum(n for n, want in zip(size, down, strict=True) if want)
    reads = given * layer.backward_reads_bottom + out * layer.backward_reads_top
    found = {"forward": (forward, sum(size) + out + params)}
    if case.backward:
        found["backward"] = (backward, out + given + reads + 2 * params)
    return found


def main() -> None:
    """Serve measurements."""
    threads = int(sys.argv[1])
    prepare(threads)
    from benchmarks.layers.cases import find
    from benchmarks.layers.serving import serve

    serve(lambda name: steps(find(name), threads))


if __name__ == "__main__":
    main()
