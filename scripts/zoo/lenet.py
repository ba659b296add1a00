"""LeNet as Caffe's MNIST example has it (ReLU instead of squashing functions)."""

from __future__ import annotations

from zoo.model import Model, Solver, softmax_head, solver_text
from zoo.net import Images, Net, Rates, xavier
from zoo.text import message

__all__ = ["models"]

FOLDER = "lenet"
MNIST = ("examples/mnist/mnist_train_lmdb", "examples/mnist/mnist_test_lmdb", 100)
# 360 test images: six batches of 60 show each of them once.
DIGITS_DIR = "build/lenet_digits"
DIGITS = (f"{DIGITS_DIR}/digits_train_lmdb", f"{DIGITS_DIR}/digits_test_lmdb", 60)


def models() -> list[Model]:
    """LeNet on MNIST, and on the digits that come with Poseidon."""
    files = {
        "train_val.prototxt": _net(MNIST),
        "deploy.prototxt": _net(None),
        "solver.prototxt": solver_text(_mnist(), "LeNet on MNIST, 0.991 after 10000."),
        "digits_train_test.prototxt": _net(DIGITS),
        "digits_solver.prototxt": solver_text(
            _digits(),
            "LeNet on the built-in UCI digits: what `make train` runs.\n"
            "Paths are relative to the working directory.",
        ),
    }
    return [Model(FOLDER, files)]


def _net(data: tuple[str, str, int] | None) -> str:
    net = Net("LeNet", deploy=data is None, rates=Rates(decay=None))
    if data is None:
        net.input((64, 1, 28, 28))
    else:
        train, test, test_batch = data
        scale = message(scale=1 / 256)
        net.images(Images("TRAIN", train, 64, scale, name="mnist"))
        net.images(Images("TEST", test, test_batch, scale, name="mnist"))
    pool1 = net.pool("pool1", net.conv("conv1", "data", 20, 5, xavier()), 2, 2)
    pool2 = net.pool("pool2", net.conv("conv2", pool1, 50, 5, xavier()), 2, 2)
    ip1 = net.relu("relu1", net.inner_product("ip1", pool2, 500, xavier()))
    return softmax_head(net, net.inner_product("ip2", ip1, 10, xavier()))


def _mnist() -> Solver:
    return Solver(
        net="models/lenet/train_val.prototxt",
        test_iter=100,
        test_interval=500,
        base_lr=0.01,
        lr_policy="inv",
        gamma=0.0001,
        power=0.75,
        weight_decay=0.0005,
        display=100,
        max_iter=10000,
        snapshot=5000,
        snapshot_prefix="examples/mnist/lenet",
    )


def _digits() -> Solver:
    return Solver(
        net="models/lenet/digits_train_test.prototxt",
        test_iter=6,
        test_interval=100,
        base_lr=0.01,
        lr_policy="inv",
        gamma=0.0001,
        power=0.75,
        weight_decay=0.0005,
        display=50,
        max_iter=1000,
        snapshot=500,
        snapshot_prefix=f"{DIGITS_DIR}/lenet",
        random_seed=1,
    )
