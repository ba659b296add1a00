"""ResNet-50 with the layer names of the authors' release."""

from __future__ import annotations

from dataclasses import dataclass

from zoo.model import Model, Solver, imagenet, solver_text
from zoo.net import Net, msra
from zoo.text import message

__all__ = ["models"]

MEANS = message(mean_value=[104, 117, 123])  # blue, green, red
# (stage, residual blocks, inner channels, stride of the first block)
STAGES = ((2, 3, 64, 1), (3, 4, 128, 2), (4, 6, 256, 2), (5, 3, 512, 2))
EXPANSION = 4


@dataclass(frozen=True)
class Branch:
    """One convolution of a block, e.g. ``2a_branch1``."""

    place: str
    outputs: int
    kernel: int
    stride: int = 1


def models() -> list[Model]:
    """The net; an effective batch of 256 comes from 8 batches of 32."""
    solver = Solver(
        net="models/resnet50/train_val.prototxt",
        test_iter=1000,
        test_interval=5000,
        test_initialization=False,
        base_lr=0.1,
        lr_policy="multistep",
        gamma=0.1,
        stepvalue=(150000, 300000, 450000),
        weight_decay=0.0001,
        iter_size=8,
        average_loss=20,
        display=20,
        max_iter=600000,
        snapshot=10000,
        snapshot_prefix="models/resnet50/resnet50_train",
    )
    comment = "ResNet-50 on ImageNet, 120 epochs of 8 x 32 images an iteration."
    files = {
        "train_val.prototxt": _net(deploy=False),
        "deploy.prototxt": _net(deploy=True),
        "solver.prototxt": solver_text(solver, comment),
    }
    return [Model("resnet50", files)]


def _net(*, deploy: bool) -> str:
    net = Net("ResNet-50", deploy=deploy)
    if deploy:
        net.input((1, 3, 224, 224))
    else:
        imagenet(net, crop=224, batches=(32, 50), mean=MEANS)
    # The released weights hold a bias here, and nowhere else before fc1000.
    conv1 = net.conv("conv1", "data", 64, 7, msra(), pad=3, stride=2)
    _normalise(net, "_conv1", conv1)
    top = net.pool("pool1", net.relu("conv1_relu", conv1), 3, 2)
    for stage, blocks, channels, stride in STAGES:
        for index in range(blocks):
            first = index == 0
            name = f"{stage}{'abcdef'[index]}"
            top = _block(net, name, top, channels, stride if first else 1, widen=first)
    pool5 = net.pool("pool5", top, 7, 1, method="AVE")
    scores = net.inner_product("fc1000", pool5, 1000, msra())
    if deploy:
        net.softmax(scores)
    else:
        net.accuracy(scores, name="accuracy/top1")
        net.accuracy(scores, name="accuracy/top5", top_k=5)
        net.loss(scores)
    return net.render()


def _normalise(net: Net, suffix: str, blob: str) -> None:
    """BatchNorm and its learned Scale, both in place.

    In TRAIN the moments are the batch's, in TEST the running ones; a deployed
    net says so itself, as the release does, whatever phase it is opened in.
    """
    settings = message(use_global_stats=True) if net.deploy else None
    net.add("BatchNorm", f"bn{suffix}", [blob], [blob], batch_norm_param=settings)
    bias = message(bias_term=True)
    # Scales and shifts are not pulled towards zero by weight decay.
    specs = [] if net.deploy else [message(lr_mult=1, decay_mult=0)] * 2
    net.add("Scale", f"scale{suffix}", [blob], [blob], param=specs, scale_param=bias)


def _branch(net: Net, branch: Branch, bottom: str) -> str:
    top = net.conv(
        f"res{branch.place}",
        bottom,
        branch.outputs,
        branch.kernel,
        msra(),
        pad=branch.kernel // 2,
        stride=branch.stride,
        bias=False,
    )
    _normalise(net, branch.place, top)
    return top


def _block(
    net: Net, name: str, bottom: str, channels: int, stride: int, *, widen: bool
) -> str:
    """A bottleneck block; the first of a stage projects its shortcut."""
    wide = channels * EXPANSION
    shortcut = bottom
    if widen:
        shortcut = _branch(net, Branch(f"{name}_branch1", wide, 1, stride), bottom)
    inner = bottom
    for branch in (
        Branch(f"{name}_branch2a", channels, 1, stride),
        Branch(f"{name}_branch2b", channels, 3),
    ):
        inner = _branch(net, branch, inner)
        net.relu(f"res{branch.place}_relu", inner)
    inner = _branch(net, Branch(f"{name}_branch2c", wide, 1), inner)
    top = net.add("Eltwise", f"res{name}", [shortcut, inner], [f"res{name}"])
    return net.relu(f"res{name}_relu", top)
