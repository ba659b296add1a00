from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.errors import GraphError, LayerError, ShapeError, WeightsError
from poseidon_caffe.types import Phase
from tests.net.support import (
    DATA,
    SMALL,
    conv,
    fc,
    fill_inputs,
    gradients,
    layer,
    loss,
    make_net,
)


def test_blobs_are_in_caffes_order():
    net = make_net(SMALL)
    assert net.layer_names == ["data", "c", "r", "f", "loss"]
    assert list(net.blobs) == ["data", "label", "c", "f", "loss"]
    assert net.input_names == ["data", "label"]
    assert net.output_names == ["loss"]
    assert net.bottom_names[4] == ["f", "label"]
    assert net.top_names[2] == ["c"]
    assert net.bottom_blobs[3] == [net.blobs["c"]]
    # Caffe's "Memory required for data" counts an in-place top again.
    count = 4 * 3 * 64 + 4 + 2 * (4 * 4 * 64) + 4 * 5 + 1
    assert net.memory_bytes == 4 * count


def test_outputs_are_sorted_as_caffes_set_is():
    text = DATA + fc("z", "data") + fc("B", "data") + fc("a", "data")
    assert make_net(text).output_names == ["B", "a", "label", "z"]


def test_layers_take_the_nets_phase_unless_they_have_their_own():
    text = DATA + layer("a", "Dropout", "data") + layer("b", "Dropout", "a")
    text += layer("c", "Dropout", "b", None, "phase: TEST")
    net = make_net(text)
    assert [x.phase for x in net.layers] == [Phase.TRAIN] * 3 + [Phase.TEST]
    assert [x.phase for x in net.param.layer] == [0, 0, 0, 1]
    assert make_net(text, phase=Phase.TEST).layers[1].phase == Phase.TEST


def test_automatic_tops_are_no_outputs():
    net = make_net(
        DATA + fc("f", "data") + layer("loss", "SoftmaxWithLoss", "f label", "")
    )
    assert net.output_names == []
    assert net.top_names[2] == ["(automatic) loss/0"]
    assert net.loss_weights["(automatic) loss/0"] == 1
    fill_inputs(net)
    assert net.forward() == pytest.approx(net.top_blobs[2][0].data.item())
    named = make_net(DATA + fc("f", "data") + loss("loss", "f label"))
    fill_inputs(named)
    assert gradients(named)[0] == gradients(net)[0]


def test_same_seed_same_parameters():
    one, two, other = make_net(SMALL), make_net(SMALL), make_net(SMALL, seed=2)
    for a, b, c in zip(one.learnable, two.learnable, other.learnable, strict=True):
        assert a.data.tobytes() == b.data.tobytes()
        assert not np.any(a.data) or a.data.tobytes() != c.data.tobytes()


# -- what is refused ---------------------------------------------------------


def test_unknown_types_list_the_known():
    with pytest.raises(LayerError) as caught:
        make_net(DATA + layer("x", "Convolutoin", "data"))
    assert "Convolutoin" in str(caught.value)
    assert "Convolution," in str(caught.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (layer("x", "ReLU", "data label"), r"takes 1 bottom\(s\), not 2"),
        (layer("x", "ReLU", ""), r"takes 1 bottom\(s\), not 0"),
        (layer("x", "Eltwise", "data"), r"at least 2 bottom\(s\), not 1"),
        (layer("x", "ReLU", "data", "a b"), r"takes 1 top\(s\), not 2"),
        (layer("x", "Pooling", "data", "a b c"), r"at most 2 top\(s\), not 3"),
        (layer("x", "Convolution", "data", "a b"), "as many tops as bottoms"),
    ],
)
def test_wrong_numbers_of_blobs(text, problem):
    with pytest.raises(LayerError, match=f'layer "x".*{problem}'):
        make_net(DATA + text)


def test_loss_weight_once_per_top():
    with pytest.raises(LayerError, match=r'"l".*once per top \(1\), not 2 times'):
        make_net(DATA + fc("f", "data") + loss("l", "f label", "loss_weight: [1, 1]"))


def test_shape_errors_name_layer_and_bottoms():
    text = DATA + conv("c", "data", "num_output: 2 kernel_size: 3")
    with pytest.raises(ShapeError) as caught:
        make_net(text + layer("s", "Eltwise", "data c"))
    message = str(caught.value)
    assert 'layer "s" (Eltwise)' in message
    assert "(4, 3, 8, 8)" in message
    assert "c: (4, 2, 6, 6)" in message


def test_too_large_for_memory():
    shape = "shape { " + 6 * "dim: 900000 " + "}"
    text = layer("big", "Input", "", None, f"input_param {{ {shape} }}")
    with pytest.raises(LayerError, match=r'layer "big" .*no machine addresses'):
        make_net(text + fc("f", "big"))


def test_errors_come_from_the_first_layer_that_is_wrong():
    with pytest.raises(GraphError, match=r'layer "x"'):
        make_net(DATA + layer("x", "ReLU", "nix") + layer("y", "Nonsense", "nix"))


def test_what_a_users_code_sees_is_c_ordered_and_reshaped_every_time():
    mine = """python_param { module: "poseidon_caffe.caffe.example_layer"
      layer: "ScaleLayer" }"""
    text = DATA + conv("c", "data") + layer("p", "Python", "c", "p", mine)
    net = make_net(text + conv("d", "p"))
    stored = {name: blob.channels_last for name, blob in net.blobs.items()}
    assert stored["c"] is stored["p"] is False
    assert stored["d"] is True
    calls = []
    net.layers[2].reshape = lambda *blobs: calls.append(blobs)
    net.forward()
    net.forward()
    assert len(calls) == 2


# -- parameters that stand in the net ----------------------------------------


def test_parameters_in_the_net_are_taken():
    source = make_net(SMALL, seed=5)
    net = make_net(source.to_proto())
    for a, b in zip(net.learnable, source.learnable, strict=True):
        assert a.data.tobytes() == b.data.tobytes()
    # They are not kept a second time.
    assert not any(x.param.blobs for x in net.layers)
    assert not any(x.blobs for x in net.param.layer)


def test_parameters_in_the_net_must_fit():
    param = make_net(SMALL).to_proto()
    param.layer[3].inner_product_param.num_output = 7
    with pytest.raises(
        WeightsError, match=r"layer f, parameter 0: the net has \(7, 256"
    ):
        make_net(param)
