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
        check: raises if a pass's loss is no number; called before its backward,
            or on a GPU, which would stand still meanwhile, after it.
    """
    net.clear_param_diffs()
    total = 0.0
    for i in range(passes):
        last = i == passes - 1
        if net.ops.memory.is_host:
            loss = net.forward(observed=True)
            check(loss)
            net.backward(last_pass=last)
        else:
            loss = net.forward_backward(last_pass=last)
            check(loss)
        total += loss
    return total / passes
