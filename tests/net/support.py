"""Building nets from text for the tests of the net package."""

from __future__ import annotations

import zlib

import numpy as np

from poseidon_caffe.backend.select import get_ops
from poseidon_caffe.net.net import Net, NetOptions
from poseidon_caffe.schema.upgrade import parse_net
from poseidon_caffe.types import Phase


def make_net(text, *, phase=Phase.TRAIN, backend="cpu", seed=1, **options):
    """A net of prototxt text; ``options`` are NetOptions."""
    return Net(
        parse_net(text),
        ops=get_ops(backend, 2),
        phase=phase,
        seed=seed,
        options=NetOptions(**options),
    )


def fill_inputs(net, classes=5):
    """The same inputs and parameters whatever the options of the net."""
    for name in net.input_names:
        blob = net.blobs[name]
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        if len(blob.shape) > 1:
            blob.data[...] = rng.standard_normal(blob.shape)
        else:
            blob.data[...] = rng.integers(0, classes, blob.shape)


def gradients(net):
    """One pass; copies of the loss and of every parameter's gradient."""
    net.clear_param_diffs()
    loss = net.forward_backward()
    return loss, [blob.diff.copy() for blob in net.learnable]
