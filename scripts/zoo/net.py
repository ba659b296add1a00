"""A net under construction: one method for each kind of layer the zoo uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from zoo.text import Message, Value, Word, message, render

__all__ = [
    "Fill",
    "Images",
    "Net",
    "Rates",
    "gaussian",
    "msra",
    "xavier",
]


@dataclass(frozen=True)
class Fill:
    """How a layer's weights and bias start; ``bias`` None omits the filler."""

    weight: Message
    bias: float | None = 0.0


def gaussian(std: float, bias: float | None = 0.0) -> Fill:
    """Normal weights of deviation ``std``."""
    return Fill(message(type="gaussian", std=std), bias)


def xavier(bias: float | None = 0.0) -> Fill:
    """Uniform weights scaled by fan-in."""
    return Fill(message(type="xavier"), bias)


def msra() -> Fill:
    """Normal weights scaled for ReLU."""
    return Fill(message(type="msra"))


@dataclass(frozen=True)
class Rates:
    """Multipliers of learning rate and weight decay: (weights, bias).

    ``decay`` None leaves Caffe's default of 1 for both; an empty ``rate`` leaves
    all multipliers at 1.
    """

    rate: tuple[float, ...] = (1, 2)
    decay: tuple[float, ...] | None = (1, 0)

    def specs(self, count: int) -> list[Message]:
        """The ``param`` messages of a layer with ``count`` parameters."""
        decay: Sequence[float | None] = self.decay or (None,) * count
        return [
            message(lr_mult=rate, decay_mult=decay[i])
            for i, rate in enumerate(self.rate[:count])
        ]


@dataclass(frozen=True)
class Images:
    """One LMDB of labelled images and how they are shown to the net."""

    phase: str
    source: str
    batch: int
    transform: Message
    name: str = "data"


@dataclass
class Net:
    """Collects layers; ``deploy`` nets carry no fillers, rates or losses."""

    name: str
    deploy: bool
    rates: Rates = field(default_factory=Rates)
    _layers: list[Message] = field(default_factory=list)

    def render(self) -> str:
        """The whole net as prototxt text."""
        return render(message(name=self.name, layer=self._layers))

    def add(
        self,
        kind: str,
        name: str,
        bottoms: Sequence[str],
        tops: Sequence[str],
        **fields: Value | Sequence[Value] | None,
    ) -> str:
        """Append a layer and return its first top (or its name without tops)."""
        ends = {"bottom": list(bottoms), "top": list(tops)}
        self._layers.append(message(name=name, type=kind, **ends, **fields))
        return tops[0] if tops else name

    def input(self, dims: Sequence[int], name: str = "data") -> str:
        """The images that a deployed net is given."""
        shape = message(shape=message(dim=list(dims)))
        return self.add("Input", name, [], [name], input_param=shape)

    def images(self, images: Images) -> str:
        """A Data layer over an LMDB, for one phase."""
        return self.add(
            "Data",
            images.name,
            [],
            ["data", "label"],
            include=message(phase=Word(images.phase)),
            transform_param=images.transform,
            data_param=message(
                source=images.source, batch_size=images.batch, backend=Word("LMDB")
            ),
        )

    def conv(
        self,
        name: str,
        bottom: str,
        outputs: int,
        kernel: int,
        fill: Fill,
        *,
        pad: int | None = None,
        stride: int | None = None,
        group: int | None = None,
        bias: bool = True,
        rates: Rates | None = None,
    ) -> str:
        """A square convolution whose top has the layer's name."""
        shape = {"pad": pad, "kernel_size": kernel, "stride": stride, "group": group}
        return self._learnable(
            "Convolution",
            "convolution_param",
            name,
            bottom,
            {"num_output": outputs, **shape},
            fill,
            bias=bias,
            rates=rates,
        )

    def inner_product(
        self,
        name: str,
        bottom: str,
        outputs: int,
        fill: Fill,
        *,
        rates: Rates | None = None,
    ) -> str:
        """A fully connected layer whose top has the layer's name."""
        return self._learnable(
            "InnerProduct",
            "inner_product_param",
            name,
            bottom,
            {"num_output": outputs},
            fill,
            bias=True,
            rates=rates,
        )

    def _learnable(
        self,
        kind: str,
        settings_name: str,
        name: str,
        bottom: str,
        settings: dict[str, int | None],
        fill: Fill,
        *,
        bias: bool,
        rates: Rates | None,
    ) -> str:
        values: dict[str, Value | None] = dict(settings)
        if not bias:
            values["bias_term"] = False
        specs: list[Message] = []
        if not self.deploy:
            specs = (rates or self.rates).specs(2 if bias else 1)
            values["weight_filler"] = fill.weight
            if bias and fill.bias is not None:
                constant = fill.bias or None  # Caffe's default value is 0
                values["bias_filler"] = message(type="constant", value=constant)
        top = {settings_name: message(**values)}
        return self.add(kind, name, [bottom], [name], param=specs, **top)

    def pool(
        self,
        name: str,
        bottom: str,
        kernel: int,
        stride: int,
        *,
        method: str = "MAX",
        pad: int | None = None,
    ) -> str:
        """Pooling, MAX or AVE; output sizes are rounded up, as Caffe does."""
        settings = message(
            pool=Word(method), kernel_size=kernel, stride=stride, pad=pad
        )
        return self.add("Pooling", name, [bottom], [name], pooling_param=settings)

    def relu(self, name: str, blob: str) -> str:
        """A ReLU in place."""
        return self.add("ReLU", name, [blob], [blob])

    def dropout(self, name: str, blob: str, ratio: float) -> str:
        """Dropout in place."""
        settings = message(dropout_ratio=ratio)
        return self.add("Dropout", name, [blob], [blob], dropout_param=settings)

    def lrn(
        self, name: str, bottom: str, size: int, alpha: float, region: str | None = None
    ) -> str:
        """Local response normalisation with beta 0.75."""
        settings = message(
            local_size=size,
            alpha=alpha,
            beta=0.75,
            norm_region=Word(region) if region else None,
        )
        return self.add("LRN", name, [bottom], [name], lrn_param=settings)

    def softmax(self, bottom: str, name: str = "prob") -> str:
        """The probabilities of a deployed net."""
        return self.add("Softmax", name, [bottom], [name])

    def loss(
        self, bottom: str, name: str = "loss", top: str = "loss", weight: float = 0
    ) -> str:
        """Softmax loss against ``label``; a ``weight`` of 0 leaves Caffe's 1."""
        return self.add(
            "SoftmaxWithLoss",
            name,
            [bottom, "label"],
            [top],
            loss_weight=weight or None,
        )

    def accuracy(
        self,
        bottom: str,
        name: str = "accuracy",
        *,
        top_k: int | None = None,
    ) -> str:
        """The share of right answers among the ``top_k`` best; TEST only."""
        return self.add(
            "Accuracy",
            name,
            [bottom, "label"],
            [name],
            include=message(phase=Word("TEST")),
            accuracy_param=message(top_k=top_k) if top_k else None,
        )
