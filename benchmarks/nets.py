"""The nets that are measured: the model zoo's, fed by an Input layer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from poseidon_caffe.net.filtering import filter_net, net_state
from poseidon_caffe.schema.messages import LayerParameter, NetParameter
from poseidon_caffe.schema.upgrade import read_net
from poseidon_caffe.types import Phase

MODELS = Path(__file__).resolve().parent.parent / "models"


@dataclass(frozen=True)
class Case:
    """A model at a batch size; ``image`` is (C, H, W)."""

    model: str
    batch: int
    image: tuple[int, int, int]
    classes: int

    @property
    def name(self) -> str:
        """What the tables call it."""
        return f"{self.model} b{self.batch}"


CASES = (
    Case("lenet", 64, (1, 28, 28), 10),
    Case("cifar10_quick", 100, (3, 32, 32), 10),
    Case("alexnet", 16, (3, 227, 227), 1000),
    Case("caffenet", 16, (3, 227, 227), 1000),
    Case("googlenet", 16, (3, 224, 224), 1000),
    Case("vgg16", 4, (3, 224, 224), 1000),
    Case("resnet50", 8, (3, 224, 224), 1000),
)


def find(name: str) -> Case:
    """The case called ``name``, such as ``lenet`` or ``lenet b64``."""
    for case in CASES:
        if name in {case.model, case.name}:
            return case
    msg = f"no case {name}: there are {', '.join(c.name for c in CASES)}"
    raise SystemExit(msg)


def training_net(case: Case) -> Any:
    """The model's training net with its Data layer replaced by an Input."""
    param = read_net(MODELS / case.model / "train_val.prototxt")
    param = filter_net(param, net_state(Phase.TRAIN))
    out = NetParameter(name=param.name)
    for layer in param.layer:
        if layer.type == "Data":
            feed = LayerParameter(name=layer.name, type="Input", top=layer.top)
            feed.input_param.shape.add(dim=(case.batch, *case.image))
            feed.input_param.shape.add(dim=(case.batch,))
            out.layer.append(feed)
        else:
            out.layer.append(layer)
    return out


def sample(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels, the same for every program."""
    rng = np.random.default_rng(7)
    images = rng.standard_normal((case.batch, *case.image), dtype=np.float32)
    return images, rng.integers(0, case.classes, case.batch)
