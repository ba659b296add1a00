"""PyTorch's training loop, for its memory: ``CASE THREADS plain|last``."""

from __future__ import annotations

import sys

import torch

from benchmarks.torch_net import prepare


def main() -> None:
    """Six iterations of SGD with momentum and weight decay on one batch."""
    net, inputs = prepare(sys.argv[1], int(sys.argv[2]), sys.argv[3])
    rule = torch.optim.SGD(net.parameters(), lr=1e-6, momentum=0.9, weight_decay=0.0005)
    for _ in range(6):
        rule.zero_grad()
        loss = net(inputs)
        loss.backward()
        rule.step()


if __name__ == "__main__":
    main()
