"""AlexNet, and CaffeNet, which pools before it normalises."""

from __future__ import annotations

from zoo.model import Model, Solver, imagenet, softmax_head, solver_text
from zoo.net import Net, gaussian
from zoo.text import message

__all__ = ["models"]

MEAN_FILE = "data/ilsvrc12/imagenet_mean.binaryproto"


def models() -> list[Model]:
    """Both nets; they differ in the order of pooling and in the first biases."""
    return [
        _model("AlexNet", "alexnet", pool_first=False, bias=0.1),
        _model("CaffeNet", "caffenet", pool_first=True, bias=1),
    ]


def _model(name: str, folder: str, *, pool_first: bool, bias: float) -> Model:
    solver = Solver(
        net=f"models/{folder}/train_val.prototxt",
        test_iter=1000,
        test_interval=1000,
        base_lr=0.01,
        lr_policy="step",
        gamma=0.1,
        stepsize=100000,
        weight_decay=0.0005,
        display=20,
        max_iter=450000,
        snapshot=10000,
        snapshot_prefix=f"models/{folder}/{folder}_train",
    )
    files = {
        "train_val.prototxt": _net(name, False, pool_first, bias),
        "deploy.prototxt": _net(name, True, pool_first, bias),
        "solver.prototxt": solver_text(solver, f"{name} on ImageNet, about 90 epochs."),
    }
    return Model(folder, files)


def _net(name: str, deploy: bool, pool_first: bool, bias: float) -> str:  # noqa: FBT001
    net = Net(name, deploy=deploy)
    if deploy:
        net.input((10, 3, 227, 227))
    else:
        mean = message(mean_file=MEAN_FILE)
        imagenet(net, crop=227, batches=(256, 50), mean=mean)
    conv1 = net.conv("conv1", "data", 96, 11, gaussian(0.01), stride=4)
    stage1 = _squeeze(net, 1, conv1, pool_first=pool_first)
    conv2 = net.conv("conv2", stage1, 256, 5, gaussian(0.01, bias), pad=2, group=2)
    stage2 = _squeeze(net, 2, conv2, pool_first=pool_first)
    conv3 = net.conv("conv3", stage2, 384, 3, gaussian(0.01), pad=1)
    relu3 = net.relu("relu3", conv3)
    conv4 = net.conv("conv4", relu3, 384, 3, gaussian(0.01, bias), pad=1, group=2)
    relu4 = net.relu("relu4", conv4)
    conv5 = net.conv("conv5", relu4, 256, 3, gaussian(0.01, bias), pad=1, group=2)
    top = net.pool("pool5", net.relu("relu5", conv5), 3, 2)
    for index in (6, 7):
        top = net.inner_product(f"fc{index}", top, 4096, gaussian(0.005, bias))
        net.dropout(f"drop{index}", net.relu(f"relu{index}", top), 0.5)
    return softmax_head(net, net.inner_product("fc8", top, 1000, gaussian(0.01)))


def _squeeze(net: Net, index: int, conv: str, *, pool_first: bool) -> str:
    top = net.relu(f"relu{index}", conv)
    if pool_first:
        top = net.pool(f"pool{index}", top, 3, 2)
    top = net.lrn(f"norm{index}", top, 5, 0.0001)
    return top if pool_first else net.pool(f"pool{index}", top, 3, 2)
