"""One folder of the zoo: its nets, its solvers, its readme."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from zoo.net import Images, Net
from zoo.text import Message, Word, message, render

__all__ = ["Model", "Solver", "imagenet", "softmax_head", "solver_text"]


@dataclass(frozen=True)
class Model:
    """Files of one folder under ``models/``: name to text."""

    folder: str
    files: Mapping[str, str]


@dataclass(frozen=True)
class Solver:
    """Settings of SGD with momentum, in Caffe's words."""

    net: str
    test_iter: int
    test_interval: int
    base_lr: float
    lr_policy: str
    weight_decay: float
    display: int
    max_iter: int
    snapshot: int
    snapshot_prefix: str
    gamma: float | None = None
    power: float | None = None
    stepsize: int | None = None
    stepvalue: tuple[int, ...] = ()
    average_loss: int | None = None
    iter_size: int | None = None
    test_initialization: bool = True
    random_seed: int | None = None
    momentum: float = 0.9


def solver_text(solver: Solver, comment: str) -> str:
    """The solver's prototxt under a ``# comment``."""
    fields = message(
        net=solver.net,
        test_iter=solver.test_iter,
        test_interval=solver.test_interval,
        test_initialization=None if solver.test_initialization else False,
        base_lr=solver.base_lr,
        lr_policy=solver.lr_policy,
        gamma=solver.gamma,
        power=solver.power,
        stepsize=solver.stepsize,
        stepvalue=solver.stepvalue,
        momentum=solver.momentum,
        weight_decay=solver.weight_decay,
        iter_size=solver.iter_size,
        average_loss=solver.average_loss,
        display=solver.display,
        max_iter=solver.max_iter,
        snapshot=solver.snapshot,
        snapshot_prefix=solver.snapshot_prefix,
        random_seed=solver.random_seed,
        solver_mode=Word("CPU"),
    )
    return "".join(f"# {line}\n" for line in comment.splitlines()) + render(fields)


def imagenet(net: Net, *, crop: int, batches: tuple[int, int], mean: Message) -> None:
    """Append the two Data layers over ImageNet's LMDBs, at Caffe's usual paths.

    Args:
        net: the net to extend.
        crop: side of the square cut out of each image, in pixels.
        batches: images in a batch, (TRAIN, TEST).
        mean: a message with the mean's fields of ``transform_param``.
    """
    for phase, batch, mirror in zip(
        ("TRAIN", "TEST"), batches, (True, False), strict=True
    ):
        part = "train" if phase == "TRAIN" else "val"
        settings = message(mirror=mirror, crop_size=crop)
        transform = Message(settings.fields + mean.fields)
        source = f"examples/imagenet/ilsvrc12_{part}_lmdb"
        net.images(Images(phase, source, batch, transform))


def softmax_head(net: Net, scores: str) -> str:
    """End the net: ``prob`` when deployed, else accuracy and loss."""
    if net.deploy:
        net.softmax(scores)
    else:
        net.accuracy(scores)
        net.loss(scores)
    return net.render()
