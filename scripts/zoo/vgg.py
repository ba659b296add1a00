"""VGG's configurations D (16 layers) and E (19 layers)."""

from __future__ import annotations

from zoo.model import Model, Solver, imagenet, softmax_head, solver_text
from zoo.net import Net, gaussian, xavier
from zoo.text import message

__all__ = ["models"]

MEANS = message(mean_value=[103.939, 116.779, 123.68])  # blue, green, red
CHANNELS = (64, 128, 256, 512, 512)
CONVOLUTIONS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


def models() -> list[Model]:
    """Both depths; an effective batch of 256 comes from 8 batches of 32."""
    return [_model(depth) for depth in CONVOLUTIONS]


def _model(depth: int) -> Model:
    solver = Solver(
        net=f"models/vgg{depth}/train_val.prototxt",
        test_iter=1000,
        test_interval=5000,
        test_initialization=False,
        base_lr=0.01,
        lr_policy="step",
        gamma=0.1,
        stepsize=100000,
        weight_decay=0.0005,
        iter_size=8,
        average_loss=20,
        display=20,
        max_iter=370000,
        snapshot=10000,
        snapshot_prefix=f"models/vgg{depth}/vgg{depth}_train",
    )
    comment = f"VGG-{depth} on ImageNet, 74 epochs of 8 x 32 images an iteration."
    files = {
        "train_val.prototxt": _net(depth, deploy=False),
        "deploy.prototxt": _net(depth, deploy=True),
        "solver.prototxt": solver_text(solver, comment),
    }
    return Model(f"vgg{depth}", files)


def _net(depth: int, *, deploy: bool) -> str:
    net = Net(f"VGG_ILSVRC_{depth}_layers", deploy=deploy)
    if deploy:
        net.input((10, 3, 224, 224))
    else:
        imagenet(net, crop=224, batches=(32, 50), mean=MEANS)
    top = "data"
    stages = zip(CHANNELS, CONVOLUTIONS[depth], strict=True)
    for stage, (channels, count) in enumerate(stages, start=1):
        for index in range(1, count + 1):
            place = f"{stage}_{index}"
            # Glorot's start lets all depths train from nothing (paper, section 3.1).
            top = net.conv(f"conv{place}", top, channels, 3, xavier(), pad=1)
            net.relu(f"relu{place}", top)
        top = net.pool(f"pool{stage}", top, 2, 2)
    for index in (6, 7):
        top = net.inner_product(f"fc{index}", top, 4096, gaussian(0.005, 0.1))
        net.dropout(f"drop{index}", net.relu(f"relu{index}", top), 0.5)
    return softmax_head(net, net.inner_product("fc8", top, 1000, gaussian(0.01)))
