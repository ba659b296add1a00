"""PyTorch's training loop, for its memory: ``CASE THREADS plain|last``."""

from __future__ import annotations

import sys

import torch

from benchmarks.nets import find, sample, training_net
from benchmarks.torch_net import TorchNet


def main() -> None:
    """Six iterations of SGD with momentum and weight decay on one batch."""
    case, channels_last = find(sys.argv[1]), sys.argv[3] == "last"
    torch.set_num_threads(int(sys.argv[2]))
    param = training_net(case)
    images, labels = (torch.from_numpy(a) for a in sample(case))
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    names = next(layer.top for layer in param.layer if layer.type == "Input")
    inputs = {names[0]: images, names[1]: labels}
    net = TorchNet(param, inputs, channels_last=channels_last)
    rule = torch.optim.SGD(net.parameters(), lr=1e-6, momentum=0.9, weight_decay=0.0005)
    for _ in range(6):
        rule.zero_grad()
        loss = net(inputs)
        loss.backward()
        rule.step()


if __name__ == "__main__":
    main()
