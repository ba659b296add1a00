from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.select import get_ops
from poseidon_caffe.errors import ParseError, SnapshotError, WeightsError
from poseidon_caffe.net.weights import copy_layers
from poseidon_caffe.schema.binary import read_binary, write_binary
from poseidon_caffe.schema.messages import NetParameter
from poseidon_caffe.schema.upgrade import parse_net
from poseidon_caffe.schema.wire import array_to_blob, blob_to_array, diff_to_array
from tests.net.support import (
    DATA,
    SMALL,
    assert_same,
    conv,
    fc,
    fill_inputs,
    gradients,
    layer,
    loss,
    make_net,
    set_params,
    values,
)
from tests.net.test_fuse import NETS
from tests.net.test_params import autoencoder, siamese

ENDINGS = [".caffemodel", ".caffemodel.h5"]


def save(net, path, **options):
    (net.save_hdf5 if str(path).endswith(".h5") else net.save)(path, **options)
    return path


def stored(net, **kinds):
    """The net's parameters as a NetParameter with layers renamed or left out."""
    out = net.to_proto()
    for entry in out.layer:
        entry.name = kinds.get(entry.name, entry.name)
    return out


# -- round trips -------------------------------------------------------------


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("text", [SMALL, siamese(), NETS["residual"], autoencoder()])
def test_round_trip(tmp_path, ending, text):
    source, target = make_net(text, seed=1), make_net(text, seed=2)
    set_params(source, 7)
    path = save(source, tmp_path / f"a b{ending}")
    assert target.copy_trained_from(path) == []
    assert_same(values(target), values(source))
    assert_same([b.data for b in target.params], [b.data for b in source.params])


@pytest.mark.parametrize("ending", ENDINGS)
def test_layer_names_may_hold_slashes(tmp_path, ending):
    text = DATA + fc("inception/a/fc", "data") + fc("inception", "data")
    source, target = make_net(text, seed=1), make_net(text, seed=2)
    assert target.copy_trained_from(save(source, tmp_path / f"m{ending}")) == []
    assert_same(values(target), values(source))


def test_load_hdf5_is_by_name_too(tmp_path):
    source, target = make_net(SMALL, seed=1), make_net(SMALL, seed=2)
    source.save_hdf5(tmp_path / "m.h5")
    assert target.load_hdf5(tmp_path / "m.h5") == []
    assert_same(values(target), values(source))


def test_a_caffemodel_holds_the_net_and_every_users_parameters(tmp_path):
    net = make_net(siamese())
    net.save(tmp_path / "m.caffemodel")
    read = read_binary(tmp_path / "m.caffemodel", NetParameter)
    assert read == net.to_proto()
    assert [x.name for x in read.layer] == net.layer_names
    blobs = {x.name: [blob_to_array(b) for b in x.blobs] for x in read.layer}
    assert_same(blobs["a"], [b.data for b in net.learnable[:2]])
    assert_same(blobs["c"], blobs["a"])
    assert all(tuple(b.shape.dim) for x in read.layer for b in x.blobs)
    assert not any(b.diff for x in read.layer for b in x.blobs)


def test_hdf5_holds_shared_parameters_once(tmp_path):
    h5py = pytest.importorskip("h5py")
    make_net(siamese()).save_hdf5(tmp_path / "m.h5", write_diff=True)
    with h5py.File(tmp_path / "m.h5") as file:
        kept = {name: sorted(group) for name, group in file["data"].items()}
        diffs = {name: sorted(group) for name, group in file["diff"].items()}
    assert kept["a"] == ["0", "1"]
    assert kept["c"] == []
    assert kept["head"] == ["0", "1"]
    # Gradients Caffe writes for every user.
    assert diffs["a"] == diffs["c"] == ["0", "1"]


def test_gradients_are_stored_when_asked(tmp_path):
    net = make_net(SMALL)
    fill_inputs(net)
    _, grads = gradients(net)
    net.save(tmp_path / "m.caffemodel", write_diff=True)
    read = read_binary(tmp_path / "m.caffemodel", NetParameter)
    found = [diff_to_array(b) for x in read.layer for b in x.blobs]
    assert_same(found, grads)
    assert read == net.to_proto(write_diff=True)


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_unwritable_place_leaves_the_old_file(tmp_path, ending):
    net = make_net(SMALL)
    with pytest.raises(SnapshotError, match="missing"):
        save(net, tmp_path / "missing" / f"m{ending}")
    assert list(tmp_path.iterdir()) == []


# -- by name -----------------------------------------------------------------


@pytest.mark.parametrize("ending", ENDINGS)
def test_layers_are_matched_by_name(tmp_path, ending):
    source = make_net(
        DATA + conv("c", "data") + fc("old", "c", 3) + fc("gone", "c", 2), seed=1
    )
    target = make_net(DATA + fc("new", "data") + conv("c", "data"), seed=2)
    before = values(target)
    unused = target.copy_trained_from(save(source, tmp_path / f"m{ending}"))
    assert sorted(unused) == ["gone", "old"]
    assert_same(values(target)[2:], values(source)[:2])
    assert_same(values(target)[:2], before[:2])


def test_of_layers_with_one_name_the_first_is_meant():
    target = make_net(DATA + fc("f", "data") + layer("f", "ReLU", "f", "f"))
    source = make_net(DATA + fc("f", "data"), seed=9)
    target.copy_trained_from(source.to_proto())
    assert_same(values(target), values(source))


def test_every_mismatch_is_told_at_once_and_nothing_is_loaded():
    source = make_net(
        DATA
        + conv("c", "data", "num_output: 4 kernel_size: 5 pad: 2")
        + fc("f", "c", 7)
        + fc("g", "c", 2, "").replace("num_output: 2", "num_output: 2 bias_term: false")
        + fc("same", "data"),
        seed=1,
    )
    target = make_net(
        DATA + conv("c", "data") + fc("f", "c") + fc("g", "c", 2) + fc("same", "data"),
        seed=2,
    )
    before = values(target)
    with pytest.raises(WeightsError) as caught:
        target.copy_trained_from(source.to_proto())
    text = str(caught.value)
    assert "4 parameter(s) do not fit" in text
    assert (
        "layer c, parameter 0: the net has (4, 3, 3, 3), the file (4, 3, 5, 5)" in text
    )
    assert "layer f, parameter 0: the net has (5, 256), the file (7, 256)" in text
    assert "layer f, parameter 1: the net has (5,), the file (7,)" in text
    assert "layer g has 2 parameters, the file has 1" in text
    assert "rename it in the prototxt" in text
    assert_same(values(target), before)


def test_every_mismatch_of_hdf5_is_told_at_once(tmp_path):
    no_bias = fc("g", "c", 2).replace("num_output: 2", "num_output: 2 bias_term: false")
    first = DATA + conv("c", "data") + fc("f", "c", 7) + no_bias + fc("h", "c")
    second = DATA + conv("c", "data") + fc("f", "c") + fc("g", "c", 2)
    second += fc("h", "c").replace("num_output: 5", "num_output: 5 bias_term: false")
    source, target = make_net(first), make_net(second)
    source.save_hdf5(tmp_path / "m.h5")
    before = values(target)
    with pytest.raises(WeightsError) as caught:
        target.copy_trained_from(tmp_path / "m.h5")
    text = str(caught.value)
    assert "layer f, parameter 0: the net has (5, 256), the file (7, 256)" in text
    assert "layer f, parameter 1: the net has (5,), the file (7,)" in text
    assert "layer g, parameter 1: not in it" in text
    assert "layer h has 1 parameters, the file 2" in text
    assert "4 parameter(s)" in text
    assert_same(values(target), before)


def test_hdf5_without_a_shared_parameter_fills_its_owner(tmp_path):
    """A sharer's dataset may be absent, an owner's not."""
    source, target = make_net(siamese(), seed=1), make_net(siamese(), seed=2)
    source.save_hdf5(tmp_path / "m.h5")
    target.copy_trained_from(tmp_path / "m.h5")
    assert_same(values(target), values(source))
    apart = make_net(siamese().replace('name: "w"', "").replace('name: "b"', ""))
    with pytest.raises(WeightsError, match="layer c, parameter 0: not in it"):
        apart.copy_trained_from(tmp_path / "m.h5")


# -- files of other ages and kinds -------------------------------------------


def legacy(array):
    """A BlobProto as Caffe wrote it before 2015: always four axes."""
    blob = array_to_blob(array)
    blob.ClearField("shape")
    shape = (1,) * (4 - array.ndim) + array.shape
    blob.num, blob.channels, blob.height, blob.width = shape
    return blob


def test_four_axes_of_old_files_fit_any_shape(tmp_path):
    source, target = make_net(SMALL, seed=1), make_net(SMALL, seed=2)
    old = source.to_proto()
    for entry in old.layer:
        arrays = [blob_to_array(b) for b in entry.blobs]
        del entry.blobs[:]
        entry.blobs.extend(legacy(a) for a in arrays)
    write_binary(tmp_path / "old.caffemodel", old)
    assert target.copy_trained_from(tmp_path / "old.caffemodel") == []
    assert_same(values(target), values(source))


@pytest.mark.parametrize(
    ("shape", "fits"),
    [
        ((1, 1, 5, 256), True),
        ((5, 256, 1, 1), False),
        ((1, 5, 1, 256), False),
        ((1, 1, 256, 5), False),
    ],
)
def test_old_shapes_are_counted_from_the_end(shape, fits):
    """As Caffe's: an inner product's weights were (1, 1, N, K)."""
    net = make_net(SMALL)
    entry = parse_net('layer { name: "f" type: "InnerProduct" }').layer[0]
    weights = np.arange(5 * 256, dtype=np.float32)
    entry.blobs.extend([legacy(weights.reshape(shape)), legacy(np.ones(5, "f4"))])
    if fits:
        copy_layers(net, [entry], "old")
        assert_same([net.layers[3].blobs[0].data.reshape(-1)], [weights])
    else:
        with pytest.raises(WeightsError, match="layer f, parameter 0"):
            copy_layers(net, [entry], "old")


def test_a_new_shape_is_not_padded():
    net = make_net(SMALL)
    entry = parse_net('layer { name: "f" type: "InnerProduct" }').layer[0]
    weights = np.zeros((1, 1, 5, 256), np.float32)
    entry.blobs.extend([array_to_blob(weights), array_to_blob(np.ones(5, "f4"))])
    with pytest.raises(WeightsError, match=r"the file \(1, 1, 5, 256\)"):
        copy_layers(net, [entry], "new")


def test_doubles_are_read():
    net = make_net(SMALL)
    entry = parse_net('layer { name: "f" type: "InnerProduct" }').layer[0]
    weights = np.random.default_rng(0).standard_normal((5, 256))
    entry.blobs.extend([array_to_blob(weights), array_to_blob(np.ones(5))])
    copy_layers(net, [entry], "doubles")
    assert_same([net.layers[3].blobs[0].data], [weights.astype(np.float32)])


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("share", [0.5, 0.99])
def test_a_cut_off_file_leaves_the_net_untouched(tmp_path, ending, share):
    source, target = make_net(SMALL, seed=1), make_net(SMALL, seed=2)
    path = save(source, tmp_path / f"m{ending}")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    before = values(target)
    with pytest.raises(ParseError, match=path.name):
        target.copy_trained_from(path)
    assert_same(values(target), before)


def test_a_missing_file():
    with pytest.raises(ParseError, match=r"nowhere\.caffemodel"):
        make_net(SMALL).copy_trained_from("nowhere.caffemodel")


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
def test_backends_read_each_others_files(tmp_path, backend):
    if get_ops("cpu").name != "cpu":
        pytest.skip("no oneDNN")
    source = make_net(SMALL, backend=backend, seed=1)
    target = make_net(SMALL, backend={"numpy": "cpu", "cpu": "numpy"}[backend])
    source.save(tmp_path / "m.caffemodel")
    target.copy_trained_from(tmp_path / "m.caffemodel")
    for net in (source, target):
        fill_inputs(net)
    assert target.forward() == pytest.approx(source.forward(), rel=1e-5)


def test_a_loss_layer_is_no_obstacle():
    """Layers without parameters in the file or the net are passed over."""
    source = make_net(SMALL)
    target = make_net(
        DATA + conv("c", "data") + fc("f", "c") + layer("s", "Silence", "f", "")
    )
    assert target.copy_trained_from(source.to_proto()) == []
    bare = make_net(DATA + fc("q", "data") + loss("loss", "q label"))
    assert set(bare.copy_trained_from(stored(source, c="other"))) == {"other", "f"}
