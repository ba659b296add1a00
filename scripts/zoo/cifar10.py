"""The two CIFAR-10 nets of Caffe's example, after Krizhevsky's cuda-convnet."""

from __future__ import annotations

from dataclasses import replace

from zoo.model import Model, Solver, softmax_head, solver_text
from zoo.net import Images, Net, Rates, gaussian
from zoo.text import message

__all__ = ["models"]

RATES = Rates(decay=None)
# cuda-convnet regularises the classifier alone this strongly.
FULL_CLASSIFIER = Rates(decay=(250, 0))
FULL_CONV3 = Rates(rate=())  # its bias learns at the common rate


def models() -> list[Model]:
    """The quick net (75% in minutes) and the full one (81%)."""
    return [_quick(), _full()]


def _start(name: str, *, deploy: bool) -> Net:
    net = Net(name, deploy=deploy, rates=RATES)
    if deploy:
        net.input((1, 3, 32, 32))
        return net
    mean = message(mean_file="examples/cifar10/mean.binaryproto")
    for phase in ("TRAIN", "TEST"):
        source = f"examples/cifar10/cifar10_{phase.lower()}_lmdb"
        net.images(Images(phase, source, 100, mean, name="cifar"))
    return net


def _quick_net(*, deploy: bool) -> str:
    net = _start("CIFAR10_quick", deploy=deploy)
    conv1 = net.conv("conv1", "data", 32, 5, gaussian(0.0001), pad=2, stride=1)
    pool1 = net.relu("relu1", net.pool("pool1", conv1, 3, 2))
    conv2 = net.conv("conv2", pool1, 32, 5, gaussian(0.01), pad=2, stride=1)
    pool2 = net.pool("pool2", net.relu("relu2", conv2), 3, 2, method="AVE")
    conv3 = net.conv("conv3", pool2, 64, 5, gaussian(0.01), pad=2, stride=1)
    pool3 = net.pool("pool3", net.relu("relu3", conv3), 3, 2, method="AVE")
    ip1 = net.inner_product("ip1", pool3, 64, gaussian(0.1))
    return softmax_head(net, net.inner_product("ip2", ip1, 10, gaussian(0.1)))


def _full_net(*, deploy: bool) -> str:
    net = _start("CIFAR10_full", deploy=deploy)
    conv1 = net.conv("conv1", "data", 32, 5, gaussian(0.0001), pad=2, stride=1)
    pool1 = net.relu("relu1", net.pool("pool1", conv1, 3, 2))
    norm1 = net.lrn("norm1", pool1, 3, 5e-05, "WITHIN_CHANNEL")
    conv2 = net.conv("conv2", norm1, 32, 5, gaussian(0.01), pad=2, stride=1)
    pool2 = net.pool("pool2", net.relu("relu2", conv2), 3, 2, method="AVE")
    norm2 = net.lrn("norm2", pool2, 3, 5e-05, "WITHIN_CHANNEL")
    conv3 = net.conv(
        "conv3", norm2, 64, 5, gaussian(0.01), pad=2, stride=1, rates=FULL_CONV3
    )
    pool3 = net.pool("pool3", net.relu("relu3", conv3), 3, 2, method="AVE")
    ip1 = net.inner_product("ip1", pool3, 10, gaussian(0.01), rates=FULL_CLASSIFIER)
    return softmax_head(net, ip1)


def _quick() -> Model:
    first = Solver(
        net="models/cifar10_quick/train_val.prototxt",
        test_iter=100,
        test_interval=500,
        base_lr=0.001,
        lr_policy="fixed",
        weight_decay=0.004,
        display=100,
        max_iter=4000,
        snapshot=4000,
        snapshot_prefix="examples/cifar10/cifar10_quick",
    )
    second = replace(first, base_lr=0.0001, max_iter=5000, snapshot=5000)
    files = {
        "train_val.prototxt": _quick_net(deploy=False),
        "deploy.prototxt": _quick_net(deploy=True),
        "solver.prototxt": solver_text(first, "The first 4000 iterations (8 epochs)."),
        "solver_lr1.prototxt": solver_text(
            second, "A tenth of the rate for 1000 more; start with --snapshot."
        ),
    }
    return Model("cifar10_quick", files)


def _full() -> Model:
    first = Solver(
        net="models/cifar10_full/train_val.prototxt",
        test_iter=100,
        test_interval=1000,
        base_lr=0.001,
        lr_policy="fixed",
        weight_decay=0.004,
        display=200,
        max_iter=60000,
        snapshot=10000,
        snapshot_prefix="examples/cifar10/cifar10_full",
    )
    second = replace(first, base_lr=0.0001, max_iter=65000, snapshot=5000)
    third = replace(first, base_lr=0.00001, max_iter=70000, snapshot=5000)
    files = {
        "train_val.prototxt": _full_net(deploy=False),
        "deploy.prototxt": _full_net(deploy=True),
        "solver.prototxt": solver_text(first, "The first 60000 iterations."),
        "solver_lr1.prototxt": solver_text(
            second, "A tenth of the rate for 5000 more; start with --snapshot."
        ),
        "solver_lr2.prototxt": solver_text(
            third, "A hundredth of the rate for 5000 more; start with --snapshot."
        ),
    }
    return Model("cifar10_full", files)
