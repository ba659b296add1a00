"""GoogLeNet: nine inception modules and two helping classifiers."""

from __future__ import annotations

from zoo.model import Model, Solver, imagenet, solver_text
from zoo.net import Net, xavier
from zoo.text import message

__all__ = ["models"]

FILL = xavier(0.2)
MEANS = message(mean_value=[104, 117, 123])  # blue, green, red
# Outputs of (1x1, 3x3_reduce, 3x3, 5x5_reduce, 5x5, pool_proj), table 1 of the paper.
INCEPTIONS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
POOL_AFTER = {"3b": "pool3/3x3_s2", "4e": "pool4/3x3_s2"}
HELPER_AFTER = {"4a": "loss1", "4d": "loss2"}


def models() -> list[Model]:
    """The net with the quick solver (polynomial decay, 60 epochs)."""
    solver = Solver(
        net="models/googlenet/train_val.prototxt",
        test_iter=1000,
        test_interval=4000,
        test_initialization=False,
        base_lr=0.01,
        lr_policy="poly",
        power=0.5,
        weight_decay=0.0002,
        average_loss=40,
        display=40,
        max_iter=2400000,
        snapshot=40000,
        snapshot_prefix="models/googlenet/googlenet_quick",
    )
    files = {
        "train_val.prototxt": _net(deploy=False),
        "deploy.prototxt": _net(deploy=True),
        "solver.prototxt": solver_text(solver, "GoogLeNet on ImageNet, 60 epochs."),
    }
    return [Model("googlenet", files)]


def _net(*, deploy: bool) -> str:
    net = Net("GoogLeNet", deploy=deploy)
    if deploy:
        net.input((10, 3, 224, 224))
    else:
        imagenet(net, crop=224, batches=(32, 50), mean=MEANS)
    top = _stem(net)
    for place, outputs in INCEPTIONS.items():
        top = _inception(net, f"inception_{place}", top, outputs)
        if place in POOL_AFTER:
            top = net.pool(POOL_AFTER[place], top, 3, 2)
        if place in HELPER_AFTER and not deploy:
            _helper(net, HELPER_AFTER[place], top)
    pool5 = net.pool("pool5/7x7_s1", top, 7, 1, method="AVE")
    net.dropout("pool5/drop_7x7_s1", pool5, 0.4)
    scores = net.inner_product("loss3/classifier", pool5, 1000, xavier())
    if deploy:
        net.softmax(scores)
    else:
        _losses(net, "loss3", scores, top="loss3/loss3", weight=1)
    return net.render()


def _conv(
    net: Net, prefix: str, short: str, bottom: str, outputs: int, kernel: int
) -> str:
    """A padded convolution and its ReLU, named ``prefix/short``."""
    name = f"{prefix}/{short}"
    top = net.conv(name, bottom, outputs, kernel, FILL, pad=kernel // 2 or None)
    return net.relu(f"{prefix}/relu_{short}", top)


def _stem(net: Net) -> str:
    conv1 = net.conv("conv1/7x7_s2", "data", 64, 7, FILL, pad=3, stride=2)
    pool1 = net.pool("pool1/3x3_s2", net.relu("conv1/relu_7x7", conv1), 3, 2)
    norm1 = net.lrn("pool1/norm1", pool1, 5, 0.0001)
    reduced = _conv(net, "conv2", "3x3_reduce", norm1, 64, 1)
    conv2 = _conv(net, "conv2", "3x3", reduced, 192, 3)
    return net.pool("pool2/3x3_s2", net.lrn("conv2/norm2", conv2, 5, 0.0001), 3, 2)


def _inception(net: Net, name: str, bottom: str, outputs: tuple[int, ...]) -> str:
    one, reduce3, three, reduce5, five, projection = outputs
    branch1 = _conv(net, name, "1x1", bottom, one, 1)
    reduced = _conv(net, name, "3x3_reduce", bottom, reduce3, 1)
    branch3 = _conv(net, name, "3x3", reduced, three, 3)
    reduced = _conv(net, name, "5x5_reduce", bottom, reduce5, 1)
    branch5 = _conv(net, name, "5x5", reduced, five, 5)
    pooled = net.pool(f"{name}/pool", bottom, 3, 1, pad=1)
    branch_pool = _conv(net, name, "pool_proj", pooled, projection, 1)
    output = f"{name}/output"
    return net.add("Concat", output, [branch1, branch3, branch5, branch_pool], [output])


def _helper(net: Net, name: str, bottom: str) -> None:
    """A classifier halfway up, to pass gradients to the lower layers."""
    pooled = net.pool(f"{name}/ave_pool", bottom, 5, 3, method="AVE")
    conv = net.conv(f"{name}/conv", pooled, 128, 1, FILL)
    fc = net.inner_product(
        f"{name}/fc", net.relu(f"{name}/relu_conv", conv), 1024, FILL
    )
    net.dropout(f"{name}/drop_fc", net.relu(f"{name}/relu_fc", fc), 0.7)
    scores = net.inner_product(f"{name}/classifier", fc, 1000, xavier())
    # Log parsers know the zoo's blobs loss1/loss1 and loss2/loss1 (not loss2/loss2).
    _losses(net, name, scores, top=f"{name}/loss1", weight=0.3)


def _losses(net: Net, name: str, scores: str, *, top: str, weight: float) -> None:
    layer = top if name == "loss3" else f"{name}/loss"
    net.loss(scores, name=layer, top=top, weight=weight)
    net.accuracy(scores, name=f"{name}/top-1")
    net.accuracy(scores, name=f"{name}/top-5", top_k=5)
