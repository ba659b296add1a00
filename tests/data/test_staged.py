"""Batches on their way to a device: what arrives there is what the CPU would have."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.backend.gpu.emulator.device import EmulatedDevice
from poseidon_caffe.backend.gpu.emulator.stream import Schedule
from poseidon_caffe.backend.gpu.ops import GpuOps
from poseidon_caffe.backend.gpu.settings import GpuSettings
from poseidon_caffe.backend.parcel import PixelRule
from poseidon_caffe.backend.reference import ReferenceOps
from poseidon_caffe.data.datum import array_to_datum, encoded_datum
from poseidon_caffe.data.db import create_db
from poseidon_caffe.data.image import encode_image
from poseidon_caffe.data.staged import StagedBatch
from poseidon_caffe.errors import DataError
from poseidon_caffe.layers.base import LayerContext
from poseidon_caffe.layers.fed import RESTARTING
from poseidon_caffe.layers.registry import layer_class
from poseidon_caffe.net.net import NetOptions
from poseidon_caffe.schema.mean import write_mean
from poseidon_caffe.schema.messages import LayerParameter, SolverParameter
from poseidon_caffe.schema.text import parse_prototxt
from poseidon_caffe.schema.upgrade import parse_net
from poseidon_caffe.solver.solver import Solver, SolverOptions
from poseidon_caffe.types import Phase, Shard
from tests.devices import gpu_ops

SHAPE = (3, 8, 9)
COUNT = 7
SCHEDULES = [(1, 0), (0, 1), (0.5, 0.5)]


def images(dtype=np.uint8):
    generator = np.random.default_rng(5)
    return [generator.integers(0, 256, SHAPE).astype(dtype) for _ in range(COUNT)]


def records(kind):
    if kind == "png":
        return [encoded_datum(image, i) for i, image in enumerate(images())]
    if kind == "ragged":
        every = [image[:, : 8 - i % 2] for i, image in enumerate(images())]
    else:
        every = images(np.float32 if kind == "float" else np.uint8)
        every = [image[: 1 if kind == "grey" else 3] for image in every]
    return [array_to_datum(image, i) for i, image in enumerate(every)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Databases, a mean, images with a list, and windows of them."""
    pytest.importorskip("lmdb")  # a lent GPU's machine may lack it
    folder = tmp_path_factory.mktemp("staged")
    for kind in ("raw", "float", "grey", "png", "ragged"):
        with create_db(str(folder / kind)) as writer:
            for i, record in enumerate(records(kind)):
                writer.put(b"%03d" % i, record.SerializeToString())
    mean = np.random.default_rng(6).random(SHAPE).astype(np.float32) * 200
    write_mean(folder / "mean.binaryproto", mean)
    lines, blocks = [], []
    for i, image in enumerate(images()):
        path = folder / f"{i}.png"
        path.write_bytes(encode_image(image, "png"))
        lines.append(f"{path} {i}\n")
        boxes = f"{i + 1} 0.75 2 1 7 6\n0 0.125 0 0 5 7\n"
        blocks.append(f"# {i}\n{path}\n3\n8\n9\n2\n{boxes}")
    (folder / "list.txt").write_text("".join(lines))
    (folder / "windows.txt").write_text("".join(blocks))
    return folder


@pytest.fixture(autouse=True)
def inside(folder, monkeypatch):
    monkeypatch.chdir(folder)


def emulated(compute=0.5, others=0.5, seed=3):
    device = EmulatedDevice(schedule=Schedule(compute, others, seed))
    return GpuOps(device, ReferenceOps(), GpuSettings(emulated=True))


@pytest.fixture
def build():
    made = []

    def make(text, ops, *, tops=2, channels_last=False, **context):
        param = parse_prototxt(f'name: "d" {text}', LayerParameter)
        cls = layer_class(param.type)
        context.setdefault("phase", Phase.TRAIN)
        layer = cls(param, LayerContext(ops, seed=4, **context))
        made.append(layer)
        kind = {"channels_last": channels_last, "memory": ops.memory}
        top = [Blob(**kind) for _ in range(tops)]
        layer.setup([], top)
        return layer, top

    yield make
    for layer in made:
        layer.close()


def run(layer, top, count):
    """Batches, copied where kernels work, so that nobody waits for them."""
    kept = []
    for _ in range(count):
        layer.forward([], top)
        for blob in top:
            kept.append(Blob(blob.shape, memory=blob.memory))
            layer.ops.copy(blob.data, kept[-1].data)
    return kept


def same(got, want):
    assert len(got) == len(want)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a.cpu_data, b.cpu_data)


def data(kind, transform="", more=""):
    where = f'source: "{kind}" backend: LMDB batch_size: 3 {more}'
    return f'type: "Data" transform_param {{ {transform} }} data_param {{ {where} }}'


def listed(transform, more=""):
    where = f'source: "list.txt" batch_size: 2 {more}'
    kind = 'type: "ImageData"'
    return f"{kind} transform_param {{ {transform} }} image_data_param {{ {where} }}"


MEAN_FILE = 'mean_file: "mean.binaryproto"'
RANDOM = f"crop_size: 5 mirror: true scale: 0.0123 {MEAN_FILE}"
WINDOWS = (
    'type: "WindowData" window_data_param { source: "windows.txt" batch_size: 4 '
    'fg_fraction: 0.5 context_pad: 1 crop_mode: "square" scale: 0.5 } '
    "transform_param { crop_size: 6 mirror: true mean_value: 9 }"
)
CASES = {
    "plain": data("raw"),
    "mean file": data("raw", MEAN_FILE),
    "mean values": data("raw", "mean_value: 1.1 mean_value: 2.7 mean_value: 3"),
    "one mean value": data("raw", "mean_value: 33.3 scale: 0.3"),
    "mirror": data("raw", "mirror: true"),
    "crop": data("raw", "crop_size: 4"),
    "all": data("raw", RANDOM),
    "skip": data("raw", RANDOM, "rand_skip: 6"),
    "far ahead": data("raw", RANDOM, "prefetch: 9 threads: 3"),
    "float": data("float", f"crop_size: 7 mirror: true scale: 0.0123 {MEAN_FILE}"),
    "float, most of it left out": data("float", RANDOM),
    "grey": data("grey", "crop_size: 6 mean_value: 7 mirror: true"),
    "png": data("png", RANDOM),
    "png in grey": data("png", "force_gray: true mirror: true scale: 0.5"),
    "png in colour": data("png", "force_color: true mean_value: 4"),
    "ragged": data("ragged", "crop_size: 5 mirror: true scale: 2 mean_value: 1"),
    "list": listed("mirror: true scale: 0.3 " + MEAN_FILE),
    "resized": listed(
        "crop_size: 5 mirror: true mean_value: 3", "new_height: 9 new_width: 7"
    ),
    "windows": WINDOWS,
}


@pytest.mark.parametrize("phase", [Phase.TRAIN, Phase.TEST])
@pytest.mark.parametrize("case", CASES)
def test_batches_are_those_of_the_cpu(case, phase, build):
    want = run(*build(CASES[case], ReferenceOps(), phase=phase), 6)
    chances = SCHEDULES[len(case) % 3]
    for last, ops in ((False, emulated(*chances)), (True, gpu_ops())):
        layer, top = build(CASES[case], ops, phase=phase, channels_last=last)
        same(run(layer, top, 6), want)


@pytest.mark.parametrize("prefetch", [False, True])
@pytest.mark.parametrize("chances", SCHEDULES, ids=str)
def test_streams_wait_for_each_other(chances, prefetch, build):
    want = run(*build(CASES["all"], ReferenceOps()), 25)
    ops = emulated(*chances)
    same(run(*build(CASES["all"], ops, prefetch=prefetch), 25), want)
    same(run(*build(CASES["all"], gpu_ops(), prefetch=prefetch), 25), want)


def test_a_batch_takes_one_copy_and_none_comes_back(build):
    ops = emulated(1, 1)
    copies = ops.device.copies
    layer, top = build(CASES["all"], ops, prefetch=False)
    layer.forward([], top)
    before, allocations = copies.to_device, ops.memory.allocations
    for _ in range(5):
        layer.forward([], top)
    assert copies.to_device == before + 5
    layer, top = build(CASES["all"], ops)
    before, allocations = copies.to_device, ops.memory.allocations
    for _ in range(5):
        layer.forward([], top)
    layer.close()
    assert before + 5 <= copies.to_device <= before + 7  # two are ahead
    assert copies.to_host == 0
    assert ops.memory.allocations - allocations == 4  # two slots and two tops


def test_labels_may_be_left_out(build):
    want = run(*build(CASES["all"], ReferenceOps(), tops=1), 3)
    same(run(*build(CASES["all"], emulated(), tops=1), 3), want)


def test_workers_see_what_they_would(build):
    for rank in range(2):
        for by_batch in (False, True):
            shard = Shard(rank, 2, by_batch=by_batch)
            want = run(*build(CASES["png"], ReferenceOps(), shard=shard), 3)
            layer, top = build(CASES["png"], emulated(0, 1), shard=shard)
            got = run(layer, top, 3)
            same(got, want)
            if by_batch:
                layer.skip_batch()
                again = build(CASES["png"], ReferenceOps())
                same(run(layer, top, 1), run(*again, 5)[-2:])


@pytest.mark.parametrize("chances", SCHEDULES, ids=str)
def test_a_resumed_layer_goes_on_exactly(chances, build):
    through = run(*build(CASES["all"], ReferenceOps()), 9)
    ops = emulated(*chances)
    layer, top = build(CASES["all"], ops)
    notes = []
    layer.note = notes.append
    run(layer, top, 2)
    state = layer.state()
    run(layer, top, 3)
    assert notes == [RESTARTING] * 2
    for _ in range(3):
        layer.restore_state(state)
        same(run(layer, top, 7), through[4:])


def test_closing_waits_for_copies(build):
    ops = emulated(0, 0)
    layer, top = build(CASES["all"], ops)
    layer.forward([], top)
    layer.close()
    layer.close()
    compute, copies = ops.device._schedule._streams
    assert copies.done == copies._given >= 1
    assert compute.done < compute._given  # nobody waited for kernels
    with pytest.raises(DataError, match="closed"):
        layer.forward([], top)


def test_a_damaged_record_is_told_when_its_turn_comes(build, folder):
    with create_db(str(folder / "damaged")) as writer:
        for i, record in enumerate(records("raw")):
            raw = b"no datum" if i == 4 else record.SerializeToString()
            writer.put(b"%03d" % i, raw)
    layer, top = build(data("damaged"), emulated())
    want = run(*build(CASES["plain"], ReferenceOps()), 1)
    same(run(layer, top, 1), want)
    state = layer.state()
    for _ in range(2):
        with pytest.raises(DataError, match="record 4"):
            layer.forward([], top)
    assert layer.state() == state
    layer.restore_state({"next_record": 0})
    same(run(layer, top, 1), want)


def test_batches_are_sent_while_a_graph_is_recorded(build):
    ops = emulated()
    layer, top = build(CASES["all"], ops)
    other = Blob((3,), memory=ops.memory)
    want = run(*build(CASES["all"], ReferenceOps()), 6)
    got = []
    for _ in range(6):
        got += run(layer, top, 1)

        def work():
            ops.copy(top[1].data, other.data)
            for ahead in list(layer._feed._waiting):
                ahead.work.result()
            layer._feed._send_ready()

        _ = top[1].data, other.data
        ops.capture(work).run()
        np.testing.assert_array_equal(other.cpu_data, got[-1].cpu_data)
    same(got, want)


def test_memory_that_is_written_again_waits_for_its_copy():
    ops = emulated(1, 0)
    stage = ops.stage(PixelRule(), 1)
    batch = StagedBatch(2, stage)
    batch.shape_data((1, 2, 2))
    batch.data[...], batch.label[...] = 5, 6
    assert not batch.send()  # there is no room yet
    batch.prepare()
    assert batch.send()
    top = [Blob(memory=ops.memory), Blob((2,), memory=ops.memory)]
    batch.unload(ops, top)
    batch.begin()
    batch.shape_data((3, 9, 9))
    batch.data[...], batch.label[...] = 7, 8
    assert top[0].shape == (2, 1, 2, 2)
    np.testing.assert_array_equal(top[0].cpu_data, 5)
    np.testing.assert_array_equal(top[1].cpu_data, 6)
    batch.prepare()
    assert batch.send()
    batch.recall()
    batch.begin()
    stage.close()


def test_images_are_staged_as_they_lie():
    ops = emulated(1, 1)
    batch = StagedBatch(2, ops.stage(PixelRule(), 1))
    pixels = np.zeros((4, 5, 3), np.uint8)
    planar = np.zeros((3, 4, 5), np.uint8)
    for image in (planar, pixels.transpose(2, 0, 1), pixels.transpose(2, 0, 1)[::-1]):
        room, places = batch.untransformed(image, (3, 4, 5))
        assert room.strides[1:] == image.strides
        assert room.shape == (2, 3, 4, 5)
        assert places.shape == (2, 3)
    assert batch.untransformed(planar.astype(np.float64), (3, 4, 5)) is None
    large = np.zeros((3, 90, 90), np.uint8)
    assert batch.untransformed(large, (3, 32, 32)) is not None
    assert batch.untransformed(large, (3, 31, 31)) is None


NET = f"""
layer {{ name: "d" top: "data" top: "label" {CASES["all"]} }}
layer {{ name: "c" type: "Convolution" bottom: "data" top: "c"
  convolution_param {{
    num_output: 4 kernel_size: 3 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "r" type: "ReLU" bottom: "c" top: "c" }}
layer {{ name: "f" type: "InnerProduct" bottom: "c" top: "f"
  inner_product_param {{ num_output: 7 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "f" bottom: "label" top: "loss" }}
"""


@pytest.mark.parametrize("chances", SCHEDULES, ids=str)
def test_training_by_a_recorded_graph_sees_the_same_data(chances):
    solvers = []
    for ops in (ReferenceOps(), emulated(*chances)):
        param = SolverParameter(base_lr=0.1, lr_policy="fixed", random_seed=3)
        param.net_param.CopyFrom(parse_net(NET))
        options = SolverOptions(net=NetOptions(capture=True, share_memory=True))
        solvers.append(Solver(param, ops=ops, options=options))
    copies = ops.device.copies
    for solver in solvers:
        solver.step(3)
    before = copies.to_device, copies.to_host
    solvers[1].step(6)
    after = copies.to_device, copies.to_host
    uploads, downloads = np.subtract(after, before)
    assert 4 <= uploads <= 8  # batches: up to two may be there ahead of their use
    assert downloads == 6  # losses
    assert ops.memory.epoch >= 6  # graphs were launched
    solvers[0].step(6)
    one, other = ([blob.cpu_data for blob in s.net.learnable] for s in solvers)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    for solver in solvers:
        solver.net.close()
