"""PyTorch's side: ``python -m benchmarks.layers.torch_worker THREADS plain|last``."""

from __future__ import annotations

import sys
from typing import Any

import torch

from benchmarks.layers.cases import find
from benchmarks.layers.data import arrays
from benchmarks.layers.serving import Steps, serve
from benchmarks.layers.torch_twins import TWINS


def steps(name: str, layout: str) -> Steps | None:
    """Forward (with what backward needs kept), and backward from given gradients."""
    if name not in TWINS:
        return None
    case, run = find(name), TWINS[name]()
    if layout == "last" and isinstance(run, torch.nn.Module):
        run = run.to(memory_format=torch.channels_last)
    bottoms = [torch.from_numpy(x) for x in arrays(case)]
    for i, x in enumerate(bottoms):
        if layout == "last" and x.dim() == 4:
            bottoms[i] = x.contiguous(memory_format=torch.channels_last)
        wanted = case.backward and i not in case.labels and i not in case.ones
        if case.type in {"Crop", "InfogainLoss"} and i == len(bottoms) - 1:
            wanted = False
        bottoms[i].requires_grad_(wanted)
    kept: dict[str, Any] = {}

    def forward() -> None:
        y = run(*bottoms)
        kept["tops"] = list(y) if isinstance(y, tuple) else [y]

    def backward() -> None:
        for x in bottoms:
            x.grad = None
        torch.autograd.backward(kept["tops"], kept["diffs"], retain_graph=True)

    forward()
    kept["diffs"] = [
        torch.full_like(y, 0.01) if y.dim() else torch.ones_like(y)
        for y in kept["tops"]
    ]
    found: Steps = {"forward": (forward, 0.0)}
    if case.backward:
        found["backward"] = (backward, 0.0)
    return found


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[1]))
    serve(lambda name: steps(name, sys.argv[2]))
