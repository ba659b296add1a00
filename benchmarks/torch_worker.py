"""PyTorch's side: ``python -m benchmarks.torch_worker CASE THREADS plain|last``."""

from __future__ import annotations

import sys

import torch

from benchmarks.nets import find, sample, training_net
from benchmarks.torch_net import TorchNet
from benchmarks.worker import serve


def main() -> None:
    """Forward and full backward, gradients dropped between iterations."""
    case, channels_last = find(sys.argv[1]), sys.argv[3] == "last"
    torch.set_num_threads(int(sys.argv[2]))
    torch.manual_seed(1)
    param = training_net(case)
    images, labels = (torch.from_numpy(a) for a in sample(case))
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    names = next(layer.top for layer in param.layer if layer.type == "Input")
    inputs = {names[0]: images, names[1]: labels}
    net = TorchNet(param, inputs, channels_last=channels_last)
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
