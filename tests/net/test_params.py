from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.errors import GraphError
from poseidon_caffe.types import Phase
from tests.net.support import (
    DATA,
    conv,
    fc,
    fill_inputs,
    gradients,
    layer,
    loss,
    make_net,
    set_params,
)

TWO = """
layer { name: "in" type: "Input" top: "x" top: "y" top: "label" input_param {
  shape { dim: 4 dim: 6 } shape { dim: 4 dim: 6 } shape { dim: 4 } } }
"""


def named(*names, first="", rest=""):
    """A ParamSpec a name; ``first`` belongs to the first of them."""
    specs = [
        f'param {{ name: "{name}" {first if i == 0 else rest} }}'
        for i, name in enumerate(names)
    ]
    return " ".join(specs)


def siamese(first="", second=""):
    """The same weights for x and y; ``first``, ``second`` go into the specs."""
    return (
        TWO
        + fc("a", "x", 3, named("w", "b", first=first))
        + fc("c", "y", 3, named("w", "b", first=second))
        + fc("head", "a", 4)
        + loss("l1", "head label")
        + layer("diff", "EuclideanLoss", "a c", "l2")
    )


# -- what counts as a parameter ----------------------------------------------


def test_names_and_order_are_caffes():
    text = DATA + conv("c", "data") + layer("bn", "BatchNorm", "c", "c")
    text += layer("s", "Scale", "c", "c") + fc("f", "c", body=named("w", "b"))
    net = make_net(text)
    assert net.param_names == ["0", "1", "0", "1", "2", "0", "w", "b"]
    assert [s.name for s in net.slots] == [
        "c/0", "c/1", "bn/0", "bn/1", "bn/2", "s/0", "w", "b",
    ]  # fmt: skip
    assert [s.owner for s in net.slots] == [1, 1, 2, 2, 2, 3, 4, 4]
    assert [s.param_index for s in net.slots] == [0, 1, 0, 1, 2, 0, 0, 1]
    assert [s.index for s in net.slots] == list(range(8))
    for slot, blob in zip(net.slots, net.learnable, strict=True):
        assert blob is net.layers[slot.owner].blobs[slot.param_index]
        assert slot.shape == blob.shape


def test_multipliers_default_to_one_and_statistics_are_not_learned():
    body = "param { lr_mult: 2 } param { lr_mult: 3 decay_mult: 0 }"
    text = DATA + conv("c", "data", body=body) + layer("bn", "BatchNorm", "c", "c")
    slots = make_net(text + fc("f", "c")).slots
    assert [(s.lr_mult, s.decay_mult) for s in slots] == [
        (2, 1), (3, 0), (0, 1), (0, 1), (0, 1), (1, 1), (1, 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "phase", "moving"),
    [
        ("", Phase.TRAIN, True),
        ("", Phase.TEST, False),
        ("batch_norm_param { use_global_stats: true }", Phase.TRAIN, False),
        ("batch_norm_param { use_global_stats: false }", Phase.TEST, True),
    ],
)
def test_statistics_are_what_forward_changes(text, phase, moving):
    net = make_net(
        DATA + conv("c", "data") + layer("bn", "BatchNorm", "c", "c", text)
        + layer("s", "Scale", "c", "c") + fc("f", "c"),
        phase=phase,
    )  # fmt: skip
    marked = {slot.name for slot in net.slots if slot.statistics}
    assert marked == ({"bn/0", "bn/1", "bn/2"} if moving else set())
    before = [blob.data.copy() for blob in net.learnable]
    fill_inputs(net)
    net.forward()
    changed = {
        slot.name
        for slot, old in zip(net.slots, before, strict=True)
        if np.any(net.learnable[slot.index].data != old)
    }
    assert changed == marked


def test_more_specs_than_parameters():
    with pytest.raises(GraphError, match=r'"f".*3 param specs but only 2 parameters'):
        make_net(DATA + fc("f", "data", body="param { } param { } param { }"))


def test_gradients_as_factors_are_offered_by_inner_products():
    net = make_net(siamese() + fc("side", "a"))
    sources = {s.name: s.source is not None for s in net.slots}
    assert sources == {
        "w": True, "b": False, "head/0": True, "head/1": False,
        "side/0": True, "side/1": False,
    }  # fmt: skip
    fill_inputs(net, 4)
    gradients(net)
    head = net.slots[2]
    dy, x = head.factors()
    np.testing.assert_allclose(dy.T @ x, net.learnable[2].diff, rtol=1e-4, atol=1e-6)
    # The sum over two users is no product of two small matrices.
    assert net.slots[0].factors() is None
    assert net.slots[1].factors() is None


def source_of(text):
    return {s.name: s.source is not None for s in make_net(text).slots}


def test_no_factors_where_they_would_not_make_every_gradient():
    ip = "inner_product_param { num_output: 5 transpose: true }"
    text = DATA + layer("f", "InnerProduct", "data", body=ip)
    assert source_of(text) == {"f/0": False, "f/1": False}
    # The bias has other uses, so it is no column sum of this layer's top diff.
    second = fc("g", "f", body='param { } param { name: "b" }')
    text = DATA + fc("f", "data", body='param { } param { name: "b" }') + second
    assert source_of(text) == {"f/0": False, "b": False, "g/0": False}
    # Nor are weights that are the bias as well.
    one = "inner_product_param { num_output: 1 }"
    twice = named("w") + ' param { name: "w" share_mode: PERMISSIVE }'
    text = DATA.replace("dim: 3 dim: 8 dim: 8", "dim: 1 dim: 1 dim: 1")
    text += layer("f", "InnerProduct", "data", body=one + twice)
    assert source_of(text) == {"w": False}
    bare = "inner_product_param { num_output: 5 bias_term: false }"
    text = DATA + layer("f", "InnerProduct", "data", body=bare)
    assert source_of(text) == {"f/0": True}


# -- sharing -----------------------------------------------------------------


def test_shared_parameters_are_one():
    net = make_net(siamese())
    a, c, head = (net.layer_index(name) for name in ("a", "c", "head"))
    assert net.layers[a].blobs == net.layers[c].blobs
    assert len(net.params) == 6
    assert len(net.learnable) == len(net.slots) == 4
    assert net.param_names == ["w", "b", "w", "b", "0", "1"]
    assert net.param_owner == [0, 1, 0, 1, 2, 3]
    users = {s.name: (s.owner, s.users, s.ready_after) for s in net.slots}
    assert users["w"] == (a, (a, c), a)
    assert users["head/0"] == (head, (head,), head)


def test_shared_gradients_are_the_sum_over_the_users():
    apart = siamese().replace('name: "w"', "").replace('name: "b"', "")
    shared, separate = make_net(siamese()), make_net(apart)
    set_params(shared, 3)
    for k, blob in enumerate(separate.learnable):
        blob.data[...] = shared.learnable[k if k < 2 else k - 2].data
        blob.touch()
    for net in (shared, separate):
        fill_inputs(net, 4)
    for _ in range(2):
        loss_one, summed = gradients(shared)
        loss_two, parts = gradients(separate)
        assert loss_one == pytest.approx(loss_two)
        for k in range(2):
            both = parts[k] + parts[k + 2]
            np.testing.assert_allclose(summed[k], both, rtol=1e-5, atol=1e-6)
            assert np.any(parts[k + 2])


@pytest.mark.parametrize("what", ["lr_mult", "decay_mult"])
def test_multipliers_of_sharers_must_agree(what):
    def slot(first, second):
        net = make_net(siamese(first, second))
        return getattr(net.slots[0], what)

    assert slot(f"{what}: 3", f"{what}: 3") == 3
    assert slot(f"{what}: 3", "") == 3
    # Left open by the owner, a sharer may set it.
    assert slot("", f"{what}: 3") == 3
    with pytest.raises(GraphError) as caught:
        slot(f"{what}: 3", f"{what}: 4")
    text = str(caught.value)
    assert 'layer "c" (InnerProduct)' in text
    assert f'parameter 0 shares "w" with {what} 4' in text
    assert "not 3" in text


def test_a_third_sharer_must_agree_with_what_the_second_set():
    text = siamese("", "lr_mult: 3") + fc("d", "y", 3, named("w", first="lr_mult: 4"))
    with pytest.raises(GraphError, match=r'"d".*lr_mult 4'):
        make_net(text)


def test_shapes_must_agree_unless_permissive():
    text = TWO + fc("a", "x", 3, named("w")) + fc("c", "a", 6, named("w"))
    with pytest.raises(GraphError) as caught:
        make_net(text)
    message = str(caught.value)
    assert 'layer "c" (InnerProduct): parameter 0 shares "w"' in message
    assert "(3, 6)" in message
    assert "(6, 3)" in message
    assert "same shape" in message


PERMISSIVE = "share_mode: PERMISSIVE"
ONE_BY_ONE = "kernel_size: 1 bias_term: false"


def test_permissive_sharing_needs_the_same_count():
    text = (
        TWO
        + fc("a", "x", 3, named("w"))
        + fc("c", "a", 5, named("w", first=PERMISSIVE))
    )
    with pytest.raises(GraphError, match="the same count"):
        make_net(text)


def autoencoder():
    """A 1x1 convolution whose weights an inner product uses in another shape."""
    return (
        DATA
        + conv("c", "data", "num_output: 16 kernel_size: 1", named("w"))
        + layer(
            "p",
            "Pooling",
            "c",
            None,
            "pooling_param { pool: AVE global_pooling: true }",
        )
        + fc("f", "p", 3, named("w", first=PERMISSIVE))
        + loss("l", "f label")
    )


def test_permissive_sharing_follows_every_change():
    net = make_net(autoencoder())
    assert [s.shape for s in net.slots] == [(16, 3, 1, 1), (16,), (3,)]
    assert net.params[2].shape == (3, 16)
    fill_inputs(net, 3)
    reference = make_net(autoencoder(), backend="numpy")
    fill_inputs(reference, 3)
    for seed in (1, 2, 3):
        for each in (net, reference):
            set_params(each, seed)
        np.testing.assert_array_equal(
            net.params[0].data.reshape(-1), net.params[2].data.reshape(-1)
        )
        ours, theirs = gradients(net), gradients(reference)
        assert ours[0] == pytest.approx(theirs[0], rel=1e-5)
        for a, b in zip(ours[1], theirs[1], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_a_convolution_that_shares_permissively_sees_new_weights():
    """Its kernel keeps packed weights, which another blob's update must outdate."""
    text = (
        DATA
        + conv("a", "data", f"num_output: 16 {ONE_BY_ONE}", named("w"))
        + conv("b", "a", f"num_output: 3 {ONE_BY_ONE}",
               named("w", first=PERMISSIVE))
    )  # fmt: skip
    net = make_net(text, phase=Phase.TEST)
    fill_inputs(net)
    for seed in (1, 2):
        set_params(net, seed)
        net.forward()
        w = net.learnable[0].data.reshape(-1)
        hidden = np.tensordot(w.reshape(16, 3), net.blobs["data"].data, (1, 1))
        want = np.tensordot(w.reshape(3, 16), hidden, (1, 0)).swapaxes(0, 1)
        np.testing.assert_allclose(net.blobs["b"].data, want, rtol=1e-3, atol=1e-4)


def test_sharing_over_accumulated_passes():
    """iter_size: the second pass adds, whichever blob object writes."""
    for text in (siamese(), autoencoder()):
        net = make_net(text)
        fill_inputs(net, 3)
        _, once = gradients(net)
        net.clear_param_diffs()
        net.forward_backward(last_pass=False)
        net.forward_backward()
        for blob, grad in zip(net.learnable, once, strict=True):
            np.testing.assert_allclose(blob.diff, 2 * grad, rtol=1e-4, atol=1e-6)


def test_more_than_two_may_share():
    text = TWO + fc("a", "x", 6, named("w")) + fc("c", "a", 6, named("w"))
    net = make_net(text + fc("d", "c", 6, named("w")))
    assert net.slots[0].users == (1, 2, 3)
    assert net.slots[0].ready_after == 1


def test_one_layer_may_use_a_parameter_twice():
    """A unit whose scale is its shift, too."""
    body = "scale_param { bias_term: true } " + named("w", "w")
    net = make_net(TWO + layer("s", "Scale", "x", None, body + " loss_weight: 1"))
    assert [(s.name, s.users) for s in net.slots] == [("w", (1,))]
    fill_inputs(net)
    net.clear_param_diffs()
    net.forward_backward()
    want = net.blobs["x"].data.sum(0) + 4
    np.testing.assert_allclose(net.learnable[0].diff, want, rtol=1e-5)
