"""The guard against losses that are no numbers any more."""

from __future__ import annotations

import math

from poseidon_caffe.errors import NumericsError
from poseidon_caffe.net.net import Net

__all__ = ["check_loss"]


def check_loss(net: Net, loss: float, iteration: int, rate: float) -> None:
    """Raise NumericsError, naming what went wrong first, unless ``loss`` is finite.

    Args:
        net: the train net just after the pass that gave ``loss``.
        loss: of this iteration.
        iteration: 0-based, for the message.
        rate: learning rate of this iteration, for the message.
    """
    if math.isfinite(loss):
        return
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
    raise NumericsError(msg)
