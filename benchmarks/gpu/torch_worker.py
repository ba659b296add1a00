"""PyTorch's side: channels-last, cuDNN's benchmark mode, a CUDA graph, autocast.

With ``POSEIDON_GPU=emulated`` it may run on the CPU, to try this file.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.gpu.serving import Built, serve
from benchmarks.nets import Case, sample, training_net
from benchmarks.torch_net import TorchNet
from poseidon_caffe.backend.gpu.settings import is_emulated

ON_GPU = torch.cuda.is_available()
DEVICE = "cuda" if ON_GPU else "cpu"


class Torch:
    """`Program` of PyTorch."""

    def __init__(self) -> None:
        torch.backends.cudnn.benchmark = True
        torch.set_default_device(DEVICE)
        self._kept: list[Any] = []

    def build(self, case: Case, precision: str) -> Built:
        """The same net, momentum SGD, and its step as a graph where that works."""
        if not (ON_GPU or is_emulated()):
            # A processor would take all the time there is for one case.
            raise RuntimeError(
                f"PyTorch {torch.__version__} sees no GPU: is it for the driver's CUDA?"
            )
        torch.manual_seed(1)
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
        param = training_net(case)
        images, labels = (torch.from_numpy(a).to(DEVICE) for a in sample(case))
        images = images.contiguous(memory_format=torch.channels_last)
        names = next(layer.top for layer in param.layer if layer.type == "Input")
        inputs = {names[0]: images, names[1]: labels}
        net = TorchNet(param, inputs, channels_last=True).train()
        rule = torch.optim.SGD(
            net.parameters(), lr=1e-6, momentum=0.9, weight_decay=0.0005, fused=ON_GPU
        )
        half = precision == "bf16"

        def work() -> torch.Tensor:
            # Each weight is used once: a cache of converted ones gains nothing.
            with (
                torch.autocast(DEVICE, torch.bfloat16, cache_enabled=False)
                if half
                else contextlib.nullcontext()
            ):
                loss = net(inputs)
            loss.backward()
            rule.step()
            return loss.detach()

        self._kept = [net, rule, inputs]
        if ON_GPU:
            torch.cuda.reset_peak_memory_stats()
        return self._graphed(work, rule)

    def _graphed(self, work: Callable[[], torch.Tensor], rule: Any) -> Built:
        def eager() -> float:
            rule.zero_grad(set_to_none=True)
            return float(work())

        if not ON_GPU:
            return Built(eager, "on the CPU")
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(3):
                eager()
        torch.cuda.current_stream().wait_stream(aside)
        # What cuDNN tried out while it measured is not what training needs.
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        try:
            graph = torch.cuda.CUDAGraph()
            rule.zero_grad(set_to_none=True)
            with torch.cuda.graph(graph):
                loss = work()
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            return Built(eager, f"no CUDA graph: {error}"[:200])
        self._kept += [graph, loss]

        def step() -> float:
            graph.replay()
            return float(loss)

        return Built(step)

    def peak_mb(self) -> float:
        """What PyTorch's allocator reserved at most."""
        return torch.cuda.max_memory_reserved() / 1e6 if ON_GPU else 0.0

    def drop(self) -> None:
        """Forget the net and empty the caches."""
        self._kept = []
        gc.collect()
        if ON_GPU:
            torch.cuda.empty_cache()


if __name__ == "__main__":
    serve(Torch())
