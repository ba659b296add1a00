"""Building nets from text for the tests of the net package."""

from __future__ import annotations

import zlib

import numpy as np

from poseidon_caffe.backend.select import get_ops
from poseidon_caffe.net.net import Net, NetOptions
from poseidon_caffe.schema.upgrade import parse_net, read_net
from poseidon_caffe.types import Phase
from tests.golden_support import GOLDEN

DATA = """
layer { name: "data" type: "Input" top: "data" top: "label"
  input_param { shape { dim: 4 dim: 3 dim: 8 dim: 8 } shape { dim: 4 } } }
"""


def layer(name, kind, bottoms="", tops=None, body=""):
    """A layer in prototxt; bottoms and tops are words, one top of its name if None."""
    blobs = [f'bottom: "{word}"' for word in bottoms.split()]
    blobs += [f'top: "{word}"' for word in (name if tops is None else tops).split()]
    return f'layer {{ name: "{name}" type: "{kind}" {" ".join(blobs)} {body} }}\n'


def conv(name, bottom, extra="num_output: 4 kernel_size: 3 pad: 1", body=""):
    param = f'convolution_param {{ {extra} weight_filler {{ type: "msra" }} }}'
    return layer(name, "Convolution", bottom, body=f"{param} {body}")


def fc(name, bottom, outputs=5, body=""):
    filler = 'weight_filler { type: "xavier" } bias_filler { type: "uniform" }'
    param = f"inner_product_param {{ num_output: {outputs} {filler} }}"
    return layer(name, "InnerProduct", bottom, body=f"{param} {body}")


def loss(name, bottoms, body=""):
    return layer(name, "SoftmaxWithLoss", bottoms, body=body)


SMALL = (
    DATA
    + conv("c", "data")
    + layer("r", "ReLU", "c", "c")
    + fc("f", "c")
    + loss("loss", "f label")
)


def make_net(
    text, *, phase=Phase.TRAIN, backend="cpu", seed=1, state=(0, ()), **options
):
    """A net of prototxt text or message; ``options`` are NetOptions."""
    return Net(
        parse_net(text) if isinstance(text, str) else text,
        ops=get_ops(backend, 2),
        phase=phase,
        level=state[0],
        stages=state[1],
        seed=seed,
        options=NetOptions(**options),
    )


def golden_param(name, batch):
    """One of the published nets whose recordings we have, at another batch size."""
    param = read_net(GOLDEN / "nets" / f"{name}.prototxt")
    for shape in param.layer[0].input_param.shape:
        shape.dim[0] = batch
    return param


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


def values(net):
    """Copies of all learnable parameters."""
    return [blob.data.copy() for blob in net.learnable]


def set_params(net, seed):
    """Other parameters, as a solver or loaded weights would set them."""
    rng = np.random.default_rng(seed)
    for blob in net.learnable:
        blob.data[...] = 0.3 * rng.standard_normal(blob.shape)
        blob.touch()


def assert_same(ours, theirs):
    """Two lists of arrays, bit for bit."""
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        assert a.tobytes() == b.tobytes()


def replays(net):
    """How often each recording of a net's steps was replayed since it was made."""
    sections = net._replay.sections
    return [record.runs for each in sections for record in each.records.values()]
