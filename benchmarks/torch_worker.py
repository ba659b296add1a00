"""PyTorch's side: ``python -m benchmarks.torch_worker CASE THREADS plain|last``."""

from __future__ import annotations

import sys

from benchmarks.torch_net import prepare
from benchmarks.worker import serve


def main() -> None:
    """Forward and full backward, gradients dropped between iterations."""
    net, inputs = prepare(sys.argv[1], int(sys.argv[2]), sys.argv[3])
    net.train()

    def step() -> float:
        # Caffe's nets do not ask for the data's gradient; nor does this.
        for p in net.parameters():
            p.grad = None
        loss = net(inputs)
        loss.backward()
        return float(loss.detach())

    serve(step)


if __name__ == "__main__":
    main()
