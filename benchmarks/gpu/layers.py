"""Every layer type on the GPU: how near to its memory's or its products' speed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.gpu.timing import device_ms
from benchmarks.layers.cases import CASES, Case
from benchmarks.layers.data import arrays
from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.layers.base import LayerContext
from poseidon_caffe.layers.registry import layer_class
from poseidon_caffe.schema.messages import LayerParameter
from poseidon_caffe.schema.text import parse_prototxt

__all__ = ["HEAD", "line", "rows"]

# A GPU's cache holds what the table of CPUs measures with.
_TIMES = 8
_AS_THEY_ARE = {"LSTM", "RNN", "LSTMUnit"}

HEAD = (
    "| layer | forward ms | of the limit | backward ms | of the limit |\n"
    + "| --- " * 5
    + "|\n"
)


def _sized(case: Case, *, tiny: bool) -> Case:
    """A larger batch than the CPUs', or a batch of 2 to try this out."""
    firsts = {shape[0] for shape in case.bottoms}
    if len(firsts) != 1 or case.type in _AS_THEY_ARE:
        return case
    (batch,) = firsts
    wanted = min(batch, 2) if tiny else _TIMES * batch
    bottoms = tuple((wanted, *shape[1:]) for shape in case.bottoms)
    gflops = case.gflops * wanted / batch
    labels = {i: min(n, wanted) if i == 1 and case.type == "BatchReindex" else n
              for i, n in case.labels.items()}  # fmt: skip
    return dataclasses.replace(case, bottoms=bottoms, gflops=gflops, labels=labels)


def _build(case: Case, ops: Any) -> tuple[Any, list[Blob], list[Blob]]:
    """(layer, bottoms, tops), filled."""
    cls = layer_class(case.type)
    least = cls.num_top or (len(case.bottoms) if cls.equal_bottom_top else cls.min_top)
    tops = case.num_top or least
    names = [f'bottom: "b{i}"' for i in range(len(case.bottoms))]
    names += [f'top: "t{i}"' for i in range(tops)]
    text = f'name: "layer" type: "{case.type}" {" ".join(names)} {case.text}'
    layer = cls(parse_prototxt(text, LayerParameter), LayerContext(ops))
    layout, memory = ops.channels_last, ops.memory
    bottom = [Blob(s, channels_last=layout, memory=memory) for s in case.bottoms]
    top = [Blob(channels_last=layout, memory=memory) for _ in range(tops)]
    layer.setup(bottom, top)
    layer.reshape(bottom, top)
    for blob, array in zip(bottom, arrays(case), strict=True):
        blob.mutable_cpu_data[...] = array
    for blob in top:
        blob.mutable_cpu_diff[...] = 0.01 if blob.count > 1 else 1.0
    return layer, bottom, top


def _measure(case: Case, ops: Any, limit: dict[str, float]) -> dict[str, Any]:
    layer, bottom, top = _build(case, ops)
    size = [4.0 * blob.count for blob in bottom]
    out = sum(4.0 * blob.count for blob in top)
    params = sum(4.0 * blob.count for blob in layer.blobs)
    down = [i not in case.labels and i not in case.ones for i in range(len(bottom))]
    if case.type in {"Crop", "InfogainLoss"}:
        down[-1] = False
    given = sum(n for n, want in zip(size, down, strict=True) if want)
    reads = given * layer.backward_reads_bottom + out * layer.backward_reads_top
    passes: dict[str, tuple[Callable[[], None], float, float]] = {
        "forward": (
            lambda: layer.forward(bottom, top), sum(size) + out + params, case.gflops
        )
    }  # fmt: skip
    if case.backward:
        passes["backward"] = (
            lambda: layer.backward(top, down, bottom),
            out + given + reads + 2 * params,
            2 * case.gflops,
        )
    row: dict[str, Any] = {"layer": case.name}
    record = not (layer.works_on_host or layer.runs_user_code)
    for what, (work, moved, gflops) in passes.items():
        ms = device_ms(ops, work, record=record)
        least = max(moved / limit["copy_gb_s"] / 1e6, gflops / limit["product_tflop_s"])
        row[what] = {"ms": ms, "share": least / ms, "bytes": moved, "gflops": gflops}
    return row


def rows(ops: Any, limit: dict[str, float], *, tiny: bool) -> Iterator[dict[str, Any]]:
    """A row of every type that computes on the GPU."""
    for case in CASES:
        if "@" in case.text or case.type in {"MemoryData", "Python"}:
            continue
        try:
            yield _measure(_sized(case, tiny=tiny), ops, limit)
        except Exception as error:  # noqa: BLE001 - the others go on
            yield {
                "layer": case.name,
                "error": f"{type(error).__name__}: {error}"[:200],
            }


def line(row: dict[str, Any]) -> str:
    """A row of the table."""
    cells = [row["layer"]]
    if "error" in row:
        cells += [row["error"], "", "", ""]
    for what in ("forward", "backward"):
        one = row.get(what)
        if one:
            share = f"{one['share']:.2f}" if one["share"] < 2 else "free"
            cells += [f"{one['ms']:.4f}", share]
    return "| " + " | ".join(cells + [""] * (5 - len(cells))) + " |\n"
