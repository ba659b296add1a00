"""The guard against losses and parameters that are no numbers any more."""

from __future__ import annotations

from poseidon_caffe.errors import NumericsError
from poseidon_caffe.net.net import Net

__all__ = ["bad_loss", "bad_parameter"]


def bad_loss(net: Net, loss: float, iteration: int, rate: float) -> NumericsError:
    """The error for a loss that is not finite, naming what went wrong first.

    Args:
        net: the train net just after the pass that gave ``loss``.
        loss: of this iteration.
        iteration: 0-based, for the message.
        rate: learning rate of this iteration, for the message.
    """
    first = net.first_non_finite()
    where = (
        f"the first to hold a NaN or infinity is {first}"
        if first
        else "no blob holds a NaN or infinity any more, a gradient may have"
    )
    msg = (
        f"iteration {iteration}: the loss is {loss:g}; {where}. Lower base_lr (the "
        f"rate is {rate:g} now), set clip_gradients, or check the data and labels; the "
        "last snapshot is untouched"
    )
    return NumericsError(msg)


def bad_parameter(net: Net) -> NumericsError | None:
    """The error for a parameter that is not finite, None if all are.

    A ReLU may turn a NaN into 0 on its way to the loss, which then looks sound.
    """
    for layer in net.layers:
        for i, blob in enumerate(layer.blobs):
            if net.ops.first_bad(blob.data) >= 0:
                msg = (
                    f"parameter {i} of layer {layer.name} holds a NaN or infinity, so "
                    "no snapshot is written; earlier ones are untouched. Lower "
                    "base_lr, set clip_gradients, or check the data"
                )
                return NumericsError(msg)
    return None
