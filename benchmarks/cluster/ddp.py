"""Rank program: PyTorch's DistributedDataParallel over gloo, as its users run it.

``mpirun -n 4 python -m benchmarks.cluster.ddp --model alexnet --batch 4`` with PyTorch
on the path.  Rank and size come from mpirun's variables, the first host's address from
``MASTER_ADDR``.  SGD with momentum and weight decay on one made-up batch.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import replace
from statistics import median

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from benchmarks.cluster.rank import Link, say
from benchmarks.nets import find, sample, training_net
from benchmarks.torch_net import Blobs, TorchNet

_PORT = 29500


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="alexnet")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--form", choices=["plain", "last"], default="plain")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("--alone", action="store_true", help="do not communicate")
    return parser.parse_args()


def _net(args: argparse.Namespace) -> tuple[TorchNet, Blobs]:
    """The net and its inputs."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    case = replace(find(args.model), batch=args.batch)
    param, is_last = training_net(case), args.form == "last"
    images, labels = (torch.from_numpy(array) for array in sample(case))
    if is_last:
        images = images.contiguous(memory_format=torch.channels_last)
    names = next(layer.top for layer in param.layer if layer.type == "Input")
    inputs = {names[0]: images, names[1]: labels}
    return TorchNet(param, inputs, channels_last=is_last), inputs


def main() -> None:
    """Train a few iterations and tell how fast."""
    args = _arguments()
    rank = int(os.environ["OMPI_COMM_WORLD_RANK"])
    size = int(os.environ["OMPI_COMM_WORLD_SIZE"])
    address = f"tcp://{os.environ.get('MASTER_ADDR', '127.0.0.1')}:{_PORT}"
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=size)
    net, inputs = _net(args)
    model: torch.nn.Module = net
    if not args.alone:
        model = DistributedDataParallel(net, gradient_as_bucket_view=True)
    rule = torch.optim.SGD(net.parameters(), lr=1e-6, momentum=0.9, weight_decay=0.0005)
    times_s = []
    link = Link()
    for i in range(args.warmup + args.iterations):
        if i == args.warmup:
            dist.barrier()
            link = Link()
        start_s = time.perf_counter()
        rule.zero_grad()
        model(inputs).backward()
        rule.step()
        times_s.append(time.perf_counter() - start_s)
    times_s = times_s[args.warmup :]
    if rank == 0:
        say(
            {
                "iteration_s": median(times_s),
                "images_per_s": size * args.batch / median(times_s),
                "link_bytes": link.sent_bytes() / args.iterations,
                "times_s": times_s,
            }
        )
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
