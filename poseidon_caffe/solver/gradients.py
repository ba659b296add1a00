"""One iteration's gradients: ``iter_size`` passes forward and backward."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from poseidon_caffe.net.net import Net

__all__ = ["sum_gradients"]


@np.errstate(all="ignore")  # the check says it better than NumPy's warnings
def sum_gradients(net: Net, passes: int, check: Callable[[float], None]) -> float:
    """Sum the gradients of some passes in the net's diffs; the mean loss.

    Args:
        net: the train net.
        passes: the solver's ``iter_size``.
        check: raises if a pass's loss is no number; called before its backward.
    """
    net.clear_param_diffs()
    total = 0.0
    for i in range(passes):
        loss = net.forward(observed=True)
        check(loss)
        net.backward(last_pass=i == passes - 1)
        total += loss
    return total / passes
