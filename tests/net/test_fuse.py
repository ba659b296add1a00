from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.select import get_ops
from poseidon_caffe.net.hooks import NullObserver
from poseidon_caffe.net.net import Net, NetOptions
from poseidon_caffe.schema.upgrade import parse_net
from poseidon_caffe.types import Phase
from tests.devices import gpu_ops
from tests.net.support import fill_inputs, gradients, make_net

INPUT = """
layer { name: "data" type: "Input" top: "data" top: "label"
  input_param { shape { dim: 4 dim: 3 dim: 8 dim: 8 } shape { dim: 4 } } }
"""
LOSS = """
layer { name: "fc" type: "InnerProduct" bottom: "%s" top: "fc"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""


def conv(name, bottom, extra="num_output: 16 kernel_size: 3 pad: 1"):
    return f"""
layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}"
  convolution_param {{ {extra} weight_filler {{ type: "msra" }} }} }}
"""


def in_place(name, kind, blob, extra=""):
    return f"""
layer {{ name: "{name}" type: "{kind}" bottom: "{blob}" top: "{blob}" {extra} }}
"""


SCALE = 'scale_param { bias_term: true filler { type: "uniform" min: 0.5 } }'
RESIDUAL = (
    INPUT
    + conv("c1", "data")
    + in_place("bn1", "BatchNorm", "c1")
    + in_place("s1", "Scale", "c1", SCALE)
    + in_place("r1", "ReLU", "c1")
    + conv("c2", "c1")
    + in_place("bn2", "BatchNorm", "c2")
    + in_place("s2", "Scale", "c2", SCALE)
    + """
layer { name: "sum" type: "Eltwise" bottom: "c1" bottom: "c2" top: "sum" }
"""
    + in_place("r2", "ReLU", "sum")
    + LOSS % "sum"
)
INCEPTION = (
    INPUT
    + conv("c0", "data")
    + in_place("r0", "ReLU", "c0", "relu_param { negative_slope: 0.1 }")
    + conv("a", "c0", "num_output: 16 kernel_size: 1")
    + in_place("ra", "ReLU", "a")
    + conv("b", "c0")
    + in_place("rb", "ReLU", "b")
    + """
layer { name: "p" type: "Pooling" bottom: "c0" top: "p"
  pooling_param { kernel_size: 3 stride: 1 pad: 1 } }
layer { name: "cat" type: "Concat" bottom: "a" bottom: "b" bottom: "p" top: "cat" }
layer { name: "n" type: "LRN" bottom: "cat" top: "n" }
layer { name: "q" type: "Pooling" bottom: "n" top: "q"
  pooling_param { pool: AVE kernel_size: 3 stride: 2 } }
"""
    + in_place("d", "Dropout", "q")
    + LOSS % "q"
)
NETS = {"residual": RESIDUAL, "inception": INCEPTION}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("share", [False, True])
def test_fused_training_computes_the_same(name, share):
    plain = make_net(NETS[name])
    fused = make_net(NETS[name], fuse=True, share_memory=share)
    for net in (plain, fused):
        fill_inputs(net)
    for _ in range(3):
        loss, grads = gradients(plain)
        other_loss, other_grads = gradients(fused)
        assert other_loss == pytest.approx(loss, rel=1e-5)
        for slot, a, b in zip(plain.slots, grads, other_grads, strict=True):
            scale = np.abs(a).max()
            np.testing.assert_allclose(
                b, a, atol=2e-4 * scale + 1e-6, err_msg=slot.name
            )
    for a, b in zip(plain.params, fused.params, strict=True):
        np.testing.assert_allclose(b.data, a.data, rtol=1e-4, atol=1e-6)


def on(ops, text, **options):
    """A training net on a backend with the inputs that all of them get."""
    net = Net(
        parse_net(text), ops=ops, phase=Phase.TRAIN, seed=1,
        options=NetOptions(**options),
    )  # fmt: skip
    for name in net.input_names:
        blob = net.blobs[name]
        rng = np.random.default_rng(len(blob.shape))
        values = rng.standard_normal(blob.shape)
        label = rng.integers(0, 5, blob.shape)
        blob.mutable_cpu_data[...] = values if len(blob.shape) > 1 else label
    return net


# The second batch norm is not in place, and a pooling reads its blob.
RECTIFIED = (
    INPUT
    + conv("c1", "data")
    + in_place("bn1", "BatchNorm", "c1")
    + in_place("s1", "Scale", "c1", SCALE)
    + in_place("r1", "ReLU", "c1")
    + conv("c2", "c1")
    + """
layer { name: "bn2" type: "BatchNorm" bottom: "c2" top: "b2" }
"""
    + in_place("s2", "Scale", "b2", SCALE)
    + in_place("r2", "ReLU", "b2")
    + """
layer { name: "p" type: "Pooling" bottom: "b2" top: "p"
  pooling_param { pool: AVE kernel_size: 3 stride: 1 pad: 1 } }
layer { name: "sum" type: "Eltwise" bottom: "c1" bottom: "p" top: "sum" }
"""
    + in_place("r3", "ReLU", "sum", "relu_param { negative_slope: 0.1 }")
    + """
layer { name: "more" type: "Eltwise" bottom: "sum" bottom: "b2" top: "more"
  eltwise_param { coeff: 1 coeff: -0.5 } }
"""
    + in_place("r4", "ReLU", "more")
    + LOSS % "more"
)


def product(name, bottom, extra="", param=""):
    fill = 'weight_filler { type: "xavier" } bias_filler { type: "uniform" }'
    return f"""
layer {{ name: "{name}" type: "InnerProduct" bottom: "{bottom}" top: "{name}" {param}
  inner_product_param {{ num_output: 12 {extra} {fill} }} }}
"""


# Biases, none, frozen ones; a batch norm without a scale; dropout after a ReLU.
BIASED = (
    INPUT
    + conv("c1", "data")
    + in_place("r1", "ReLU", "c1", "relu_param { negative_slope: 0.1 }")
    + conv("c2", "c1", "num_output: 8 kernel_size: 1 bias_term: false")
    + in_place("r2", "ReLU", "c2")
    + conv("c3", "c2", "num_output: 16 kernel_size: 3")
    + in_place("bn3", "BatchNorm", "c3")
    + in_place("r3", "ReLU", "c3")
    + product("f4", "c3")
    + in_place("r4", "ReLU", "f4")
    + in_place("d4", "Dropout", "f4")
    + product(
        "f5", "f4", "transpose: true", "param { lr_mult: 1 } param { lr_mult: 0 }"
    )
    + in_place("r5", "ReLU", "f5", "relu_param { negative_slope: 0.2 }")
    + product("f6", "f5", "bias_term: false")
    + in_place("r6", "ReLU", "f6", "relu_param { negative_slope: -0.5 }")
    + product("f7", "f6", "", 'param { name: "w" } param { name: "b" }')
    + in_place("r7", "ReLU", "f7")
    + product("f8", "f7", "", 'param { name: "w" } param { name: "b" }')
    + in_place("r8", "ReLU", "f8")
    + LOSS % "f8"
)


@pytest.mark.parametrize("backend", ["reference", "gpu"])
@pytest.mark.parametrize(
    ("text", "want"),
    [(RECTIFIED, "r1 r2 r3 r4"), (BIASED, "r1 r2 r3 r4 r5 r7 r8")],
    ids=["rectified", "biased"],
)
def test_a_relu_goes_backward_with_the_layer_before(backend, text, want):
    """Where the backend's kernels do that; gradients stay the same."""
    ops = gpu_ops() if backend == "gpu" else get_ops(backend)
    plain = on(ops, text)
    fused = on(ops, text, fuse=True, share_memory=True)
    skipped = [layer.name for layer in fused.layers if layer.skip_backward]
    assert skipped == want.split()
    for _ in range(2):
        losses = []
        for net in (plain, fused):
            net.clear_param_diffs()
            losses.append(net.forward_backward())
        assert losses[1] == pytest.approx(losses[0], rel=1e-5)
        for slot, a, b in zip(
            plain.slots, plain.learnable, fused.learnable, strict=True
        ):
            scale = np.abs(a.cpu_diff).max()
            np.testing.assert_allclose(
                b.cpu_diff, a.cpu_diff, atol=1e-4 * scale + 1e-6, err_msg=slot.name
            )


@pytest.mark.parametrize("name", NETS)
def test_fused_training_shows_every_named_blob(name):
    plain, fused = make_net(NETS[name]), make_net(NETS[name], fuse=True)
    for net in (plain, fused):
        fill_inputs(net)
        net.forward()
    assert list(plain.blobs) == list(fused.blobs)
    for blob in plain.blobs:
        np.testing.assert_allclose(
            fused.blobs[blob].data, plain.blobs[blob].data, rtol=2e-3, atol=2e-4
        )


@pytest.mark.parametrize("text", [*NETS.values(), BIASED], ids=[*NETS, "biased"])
def test_fused_scoring_computes_the_same(text):
    plain = make_net(text, phase=Phase.TEST)
    fused = make_net(
        text,
        phase=Phase.TEST,
        fuse=True,
        share_memory=True,
        forward_only=True,
    )
    fused.share_trained_layers_with(plain)
    rng = np.random.default_rng(0)
    for blob in plain.learnable:
        blob.data[...] = np.abs(rng.standard_normal(blob.shape)) * 0.3
        blob.touch()
    for _ in range(2):
        for net in (plain, fused):
            fill_inputs(net)
        assert fused.forward() == pytest.approx(plain.forward(), rel=1e-4)


def test_what_is_fused():
    net = make_net(RESIDUAL, fuse=True)
    skipped = [layer.name for layer in net.layers if layer.skip_forward]
    # A ReLU in training stays apart from a BatchNorm, whose backward needs it not.
    assert skipped == ["s1", "s2", "r2"]
    net = make_net(INCEPTION, fuse=True)
    assert [x.name for x in net.layers if x.skip_forward] == ["r0", "ra", "rb"]
    scoring = make_net(BIASED, phase=Phase.TEST, fuse=True, forward_only=True)
    skipped = [layer.name for layer in scoring.layers if layer.skip_forward]
    assert skipped == [f"r{i}" for i in range(1, 9)]
    scoring = make_net(RESIDUAL, phase=Phase.TEST, fuse=True, forward_only=True)
    skipped = [layer.name for layer in scoring.layers if layer.skip_forward]
    assert skipped == ["s1", "r1", "s2", "r2"]


def test_gradients_of_a_fused_scale_are_ready_with_its_batch_norm():
    net = make_net(RESIDUAL, fuse=True)
    bn1 = net.layer_index("bn1")
    ready = {slot.name: slot.ready_after for slot in net.slots}
    assert ready["s1/0"] == ready["s1/1"] == bn1
    readers = {slot.name: slot.readers for slot in net.slots}
    assert readers["s1/0"] == readers["s1/1"] == (bn1, bn1 + 1)
    assert readers["bn1/0"] == (bn1,)


class Late(NullObserver):
    """Values come as late as they may: before the first layer that reads them."""

    def __init__(self, net, values):
        self.net, self.values = net, values

    def before_forward(self, layer):
        for slot in self.net.slots:
            if slot.readers[0] == layer and not slot.statistics:
                blob = self.net.learnable[slot.index]
                blob.mutable_cpu_data[...] = self.values[slot.index]
                blob.touch()


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("fuse", [False, True])
def test_no_layer_reads_a_parameter_before_it_is_waited_for(name, fuse):
    early, late = (make_net(NETS[name], fuse=fuse) for _ in range(2))
    rng = np.random.default_rng(2)
    for _ in range(2):
        values = [rng.uniform(0.2, 0.6, blob.shape) for blob in early.learnable]
        late.observer = Late(late, values)
        for slot, blob in zip(early.slots, early.learnable, strict=True):
            if not slot.statistics:
                blob.mutable_cpu_data[...] = values[slot.index]
                blob.touch()
        for net in (early, late):
            fill_inputs(net)
            net.clear_param_diffs()
        assert late.forward_backward() == early.forward_backward()
        for one, other in zip(early.learnable, late.learnable, strict=True):
            np.testing.assert_array_equal(one.cpu_diff, other.cpu_diff)


def test_not_in_place_is_not_fused():
    text = (
        INPUT
        + conv("c1", "data")
        + 'layer { name: "r" type: "ReLU" bottom: "c1" top: "r" }'
        + LOSS % "r"
    )
    net = make_net(text, fuse=True)
    assert not any(layer.skip_forward for layer in net.layers)


def test_a_batch_norm_that_propagates_nothing_is_not_fused():
    """Its backward does nothing, so the scale's gradients would be lost."""
    text = RESIDUAL.replace('name: "bn1"', 'name: "bn1" propagate_down: false')
    plain, fused = make_net(text), make_net(text, fuse=True)
    for net in (plain, fused):
        fill_inputs(net)
    for slot, a, b in zip(
        plain.slots, gradients(plain)[1], gradients(fused)[1], strict=True
    ):
        np.testing.assert_allclose(b, a, rtol=2e-3, atol=1e-5, err_msg=slot.name)
        assert np.any(a) or slot.name.startswith(("c1/", "bn", "c2/1"))


def test_debug_info_switches_fusing_off():
    net = make_net("debug_info: true" + RESIDUAL, fuse=True, share_memory=True)
    assert not any(layer.skip_forward for layer in net.layers)


def test_a_relu_on_one_of_several_tops_is_not_fused():
    text = """
layer { name: "data" type: "Input" top: "x" top: "y"
  input_param { shape { dim: 2 dim: 3 dim: 6 dim: 6 } } }
layer { name: "c" type: "Convolution" bottom: "x" bottom: "y" top: "a" top: "b"
  convolution_param { num_output: 16 kernel_size: 3 weight_filler { type: "msra" } } }
layer { name: "r" type: "ReLU" bottom: "a" top: "a" }
"""
    net = make_net(text, fuse=True)
    fill_inputs(net)
    net.forward()
    assert net.blobs["a"].data.min() >= 0
    assert net.blobs["b"].data.min() < 0


def test_running_moments_move_below_what_is_frozen():
    """A TRAIN net without backward still takes the batch's moments."""
    text = (
        INPUT
        + conv("c", "data")
        + in_place("bn", "BatchNorm", "c")
        + in_place("s", "Scale", "c", SCALE)
        + in_place("r", "ReLU", "c")
    )
    moved = []
    for fused in (False, True):
        net = make_net(text, fuse=fused)
        fill_inputs(net)
        net.forward()
        layer = net.layers[net.layer_index("bn")]
        assert not layer.will_backward
        moved.append([blob.data.copy() for blob in layer.blobs])
    assert moved[0][1].all()
    for plain, fused in zip(*moved, strict=True):
        np.testing.assert_allclose(fused, plain, rtol=1e-5, atol=1e-6)
