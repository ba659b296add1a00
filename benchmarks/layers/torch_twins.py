"""The same operations in PyTorch, where it has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - its usual name

__all__ = ["TWINS"]

Forward = Callable[..., Any]
LABEL = torch.int64


def _module(make: Callable[[], nn.Module]) -> Callable[[], Forward]:
    return make


def _plain(function: Forward) -> Callable[[], Forward]:
    return lambda: function


def _labelled(function: Forward) -> Callable[[], Forward]:
    """A loss whose second input are class numbers, made integers once."""
    kept: dict[int, Any] = {}

    def run(x: Any, label: Any, *more: Any) -> Any:
        if id(label) not in kept:
            kept[id(label)] = (
                label.to(LABEL).squeeze(1) if label.dim() > 1 else label.to(LABEL)
            )
        return function(x, kept[id(label)], *more)

    return lambda: run


def _accuracy(x: Any, label: Any) -> Any:
    best = x.topk(5, dim=1).indices
    return (best == label[:, None]).any(1).float().mean()


def _contrastive(a: Any, b: Any, similar: Any) -> Any:
    square = (a - b).square().sum(1)
    apart = (1 - square.sqrt()).clamp(min=0).square()
    return torch.where(similar > 0, square, apart).sum() / len(a) / 2


def _hinge(x: Any, label: Any) -> Any:
    sign = torch.ones_like(x).scatter_(1, label[:, None], -1.0)
    return (1 + sign * x).clamp(min=0).sum() / len(x)


def _infogain(x: Any, label: Any, matrix: Any) -> Any:
    rows = matrix.reshape(x.shape[1], x.shape[1])[label]
    return -(rows * F.log_softmax(x, 1)).sum() / len(x)


def _lstm_unit(c: Any, gates: Any, cont: Any) -> Any:
    i, f, o, g = gates.chunk(4, 2)
    cell = cont[..., None] * f.sigmoid() * c + i.sigmoid() * g.tanh()
    return cell, o.sigmoid() * cell.tanh()


class _Recurrent(nn.Module):
    """A PyTorch sequence module without its final state."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Any, cont: Any) -> Any:
        """Outputs of all steps; ``cont`` is all ones."""
        return self.inner(x)[0]


class _RnnWithOutput(nn.Module):
    """Caffe's RNN has an output layer, tanh(W h + b)."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.output = nn.RNN(256, 256), nn.Linear(256, 256)

    def forward(self, x: Any, cont: Any) -> Any:
        """Outputs of all steps."""
        return self.output(self.inner(x)[0]).tanh()


class _Affine(nn.Module):
    """Scale and bias per channel."""

    def __init__(self, *, scale: bool) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1, 64, 1, 1)) if scale else None
        self.bias = nn.Parameter(torch.zeros(1, 64, 1, 1))

    def forward(self, x: Any) -> Any:
        """x scale + bias."""
        return x + self.bias if self.scale is None else x * self.scale + self.bias


def _mvn(x: Any) -> Any:
    return F.layer_norm(x, x.shape[2:])


def _spp(x: Any) -> Any:
    return torch.cat([F.adaptive_max_pool2d(x, n).flatten(1) for n in (1, 2, 4)], 1)


TWINS: dict[str, Callable[[], Forward]] = {
    "AbsVal": _plain(torch.abs),
    "Accuracy": _labelled(_accuracy),
    "ArgMax": _plain(lambda x: x.argmax(1)),
    "BNLL": _plain(F.softplus),
    "BatchNorm": _module(lambda: nn.BatchNorm2d(64, affine=False)),
    "BatchReindex": _labelled(lambda x, index: x[index]),
    "Bias": lambda: _Affine(scale=False),
    "Clip": _plain(lambda x: x.clamp(-1, 1)),
    "Concat": _plain(lambda *x: torch.cat(x, 1)),
    "ContrastiveLoss": _plain(_contrastive),
    "Convolution": _module(lambda: nn.Conv2d(256, 256, 3, padding=1)),
    "Convolution depthwise": _module(
        lambda: nn.Conv2d(128, 128, 3, padding=1, groups=128)
    ),
    "Crop": _plain(lambda x, _: x[:, :, 4:60, 4:60].contiguous()),
    "Deconvolution": _module(lambda: nn.ConvTranspose2d(64, 64, 4, 2, 1)),
    "Deconvolution upsample": _module(
        lambda: nn.ConvTranspose2d(64, 64, 4, 2, 1, groups=64, bias=False)
    ),
    "Dropout": _module(lambda: nn.Dropout(0.5)),
    "DummyData": _plain(lambda: torch.randn(32, 64, 56, 56)),
    "ELU": _plain(F.elu),
    "Eltwise": _plain(lambda a, b: a + b),
    "Eltwise max": _plain(torch.maximum),
    "Eltwise product": _plain(lambda a, b: a * b),
    "Embed": lambda: _embedding(nn.Embedding(10000, 512)),
    "EuclideanLoss": _plain(lambda a, b: (a - b).square().sum() / len(a) / 2),
    "Exp": _plain(torch.exp),
    "Filter": _labelled(lambda x, chosen: x[chosen != 0]),
    "HingeLoss": _labelled(_hinge),
    "Im2col": _plain(lambda x: F.unfold(x, 3, padding=1)),
    "InfogainLoss": _labelled(_infogain),
    "InnerProduct": _module(lambda: nn.Linear(4096, 4096)),
    "LRN": _module(lambda: nn.LocalResponseNorm(5)),
    "LSTM": lambda: _Recurrent(nn.LSTM(256, 256)),
    "LSTMUnit": _plain(_lstm_unit),
    "Log": _plain(torch.log),
    "MVN": _plain(_mvn),
    "MultinomialLogisticLoss": _labelled(lambda x, t: F.nll_loss(x.log(), t)),
    "PReLU": _module(lambda: nn.PReLU(64)),
    "Pooling max": _module(lambda: nn.MaxPool2d(3, 2, ceil_mode=True)),
    "Pooling ave": _module(lambda: nn.AvgPool2d(3, 2, ceil_mode=True)),
    "Power": _plain(lambda x: (x * 0.5 + 1).square()),
    "RNN": _RnnWithOutput,
    "ReLU": _plain(F.relu),
    "Reduction": _plain(lambda x: x.square().sum((1, 2, 3))),
    "SPP": _plain(_spp),
    "Scale": lambda: _Affine(scale=True),
    "Sigmoid": _plain(torch.sigmoid),
    "SigmoidCrossEntropyLoss": _plain(F.binary_cross_entropy_with_logits),
    "Slice": _plain(lambda x: tuple(y.contiguous() for y in x.chunk(2, 1))),
    "Softmax": _plain(lambda x: x.softmax(1)),
    "Softmax pixels": _plain(lambda x: x.softmax(1)),
    "SoftmaxWithLoss": _labelled(F.cross_entropy),
    "SoftmaxWithLoss pixels": _labelled(F.cross_entropy),
    "Swish": _plain(F.silu),
    "TanH": _plain(torch.tanh),
    "Threshold": _plain(lambda x: (x > 0).float()),
    "Tile": _plain(lambda x: x.repeat(1, 4, 1, 1)),
}


def _embedding(table: nn.Module) -> Forward:
    kept: dict[int, Any] = {}

    def run(index: Any) -> Any:
        if id(index) not in kept:
            kept[id(index)] = index.to(LABEL)
        return table(kept[id(index)])

    return run
