"""What is fed with wrong input: one function for each kind of file.

Each writes its case into a folder first, and returns what then reads it.
"""

from __future__ import annotations

import functools
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from poseidon_caffe.backend.select import get_ops
from poseidon_caffe.data.datum import encoded_datum
from poseidon_caffe.data.db import create_db
from poseidon_caffe.data.image import ColorMode, decode_image
from poseidon_caffe.layers.registry import known_types, layer_class
from poseidon_caffe.net.net import Net
from poseidon_caffe.schema import messages
from poseidon_caffe.schema.mean import read_mean
from poseidon_caffe.schema.text import parse_prototxt, to_prototxt
from poseidon_caffe.schema.upgrade import (
    parse_net,
    parse_solver,
    read_weights,
)
from poseidon_caffe.solver.solver import Solver
from poseidon_caffe.solver.state_file import read_state_file
from poseidon_caffe.types import Phase
from tests.fuzz.mutate import mutate_bytes, mutate_message, mutate_text

__all__ = ["TARGETS", "Target"]

Target = Callable[[random.Random, Path], Callable[[], None]]

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
# They read files that the case does not have, or run code.
LEFT_OUT = {"HDF5Output", "Python"}
SMALL_NET = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3
  dim: 6 dim: 6 } } }
layer { name: "c" type: "Convolution" bottom: "x" top: "c" convolution_param {
  num_output: 4 kernel_size: 3 stride: 2 weight_filler { type: "xavier" } } }
layer { name: "bn" type: "BatchNorm" bottom: "c" top: "c" }
layer { name: "ip" type: "InnerProduct" bottom: "c" top: "ip"
  inner_product_param { num_output: 5 weight_filler { type: "gaussian" std: 0.1 } } }
layer { name: "l" type: "DummyData" top: "l" dummy_data_param { shape { dim: 2 }
  data_filler { type: "constant" value: 1 } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "l" top: "loss" }
"""
SOLVER = """
base_lr: 0.01 lr_policy: "step" gamma: 0.5 stepsize: 2 power: 0.75 momentum: 0.9
weight_decay: 0.0005 max_iter: 4 display: 1 test_iter: 1 test_interval: 2
snapshot: 0 random_seed: 3 iter_size: 1 clip_gradients: 10 type: "Adam" delta: 1e-8
momentum2: 0.99 rms_decay: 0.9 average_loss: 2 stepvalue: 1 stepvalue: 3
"""


@functools.cache
def ops() -> Any:
    """The fast backend, on one thread."""
    return get_ops("cpu", 1)


@functools.cache
def nets() -> list[str]:
    """A net for each example of each layer type."""
    texts = []
    for name in known_types():
        if name in LEFT_OUT:
            continue
        cls = layer_class(name)
        for example in cls.examples():
            inputs = [
                f'layer {{ name: "b{i}" type: "DummyData" top: "b{i}" dummy_data_param '
                f"{{ shape {{ {' '.join(f'dim: {n}' for n in shape)} }} data_filler {{ "
                f'type: "uniform" min: 0 max: 1 }} }} }}\n'
                for i, shape in enumerate(example.bottoms)
            ]
            tops = example.num_top or cls.num_top or cls.min_top
            if cls.equal_bottom_top:
                tops = len(example.bottoms)
            ends = "".join(f' bottom: "b{i}"' for i in range(len(example.bottoms)))
            ends += "".join(f' top: "t{i}"' for i in range(tops))
            texts.append(
                "".join(inputs)
                + f'layer {{ name: "layer" type: "{name}"{ends} {example.param} }}\n'
            )
    return texts


def done(_result: object) -> None:
    """The result is not looked at."""


def run_net(text: str, phase: Phase = Phase.TRAIN, folder: Path | None = None) -> None:
    """Read, build, and run forward and backward twice."""
    del folder
    net = Net(parse_net(text), ops=ops(), phase=phase)
    try:
        for _ in range(2):
            net.forward()
            net.backward()
    finally:
        net.close()


def net_text(rng: random.Random, folder: Path) -> Callable[[], None]:
    """The prototxt of a net."""
    text = mutate_text(rng.choice((*nets(), SMALL_NET)), rng)
    (folder / "net.prototxt").write_text(text, errors="surrogateescape")
    return lambda: run_net(text)


def net_message(rng: random.Random, folder: Path) -> Callable[[], None]:
    """A net whose fields are wrong, though its prototxt is none the less one."""
    text = rng.choice((*nets(), SMALL_NET))
    net = parse_prototxt(text, messages.NetParameter)
    mutate_message(net, rng)
    changed = to_prototxt(net)
    (folder / "net.prototxt").write_text(changed, errors="surrogateescape")
    return lambda: run_net(changed, rng.choice(list(Phase)))


def old_net(rng: random.Random, folder: Path) -> Callable[[], None]:
    """A net in an old format, upgraded."""
    path = rng.choice(sorted((GOLDEN / "upgrade").glob("*.prototxt")))
    text = mutate_text(path.read_text(), rng)
    (folder / "old.prototxt").write_text(text, errors="surrogateescape")
    return lambda: done(parse_net(text))


def solver(rng: random.Random, folder: Path) -> Callable[[], None]:
    """The prototxt of a solver, which then takes two steps."""
    text = mutate_text(SOLVER, rng)
    (folder / "solver.prototxt").write_text(text, errors="surrogateescape")

    def run() -> None:
        param = parse_solver(text)
        # A long test is no hang.
        param.test_iter[:] = [min(n, 2) for n in param.test_iter]
        param.iter_size = min(param.iter_size, 2)
        param.net_param.CopyFrom(parse_net(SMALL_NET))
        param.snapshot_prefix = str(folder / "snap")
        made = Solver(param, ops=ops())
        try:
            made.step(2)
        finally:
            made.close()

    return run


@functools.cache
def trained() -> Net:
    """A net that takes weights."""
    return Net(parse_net(SMALL_NET), ops=ops(), phase=Phase.TRAIN)


def caffemodel(rng: random.Random, folder: Path) -> Callable[[], None]:
    """Weights, damaged in bytes or in fields."""
    path = folder / "a.caffemodel"
    message = trained().to_proto()
    if rng.randrange(2):
        mutate_message(message, rng)
    data = message.SerializePartialToString()
    path.write_bytes(mutate_bytes(data, rng) if rng.randrange(2) else data)

    def run() -> None:
        read_weights(path)
        trained().copy_trained_from(str(path))
        trained().forward()

    return run


def caffemodel_h5(rng: random.Random, folder: Path) -> Callable[[], None]:
    """Weights as HDF5."""
    path = folder / "a.caffemodel.h5"
    trained().save_hdf5(path)
    path.write_bytes(mutate_bytes(path.read_bytes(), rng))
    return lambda: done(trained().copy_trained_from(str(path)))


def solverstate(rng: random.Random, folder: Path) -> Callable[[], None]:
    """A solver's state, in both forms."""
    source = rng.choice(sorted((GOLDEN / "solvers").glob("*.solverstate*")))
    path, data = folder / source.name, source.read_bytes()
    if source.suffix == ".solverstate" and rng.randrange(2):
        message = messages.SolverState.FromString(data)
        mutate_message(message, rng)
        path.write_bytes(message.SerializePartialToString())
    else:
        path.write_bytes(mutate_bytes(data, rng))
    return lambda: done(read_state_file(path))


def records(rng: random.Random, folder: Path) -> Callable[[], None]:
    """Datums of an LMDB."""
    path = folder / "db"
    image = np.arange(3 * 8 * 8, dtype=np.uint8).reshape(3, 8, 8)
    plain = messages.Datum(channels=3, height=8, width=8, data=image.tobytes(), label=1)
    encoded = encoded_datum(image, 2)
    writer = create_db(str(path))
    with writer:
        for index in range(3):
            datum = messages.Datum()
            datum.CopyFrom(rng.choice((plain, plain, encoded)))
            if rng.randrange(2):
                mutate_message(datum, rng)
            raw = datum.SerializePartialToString()
            if rng.randrange(3) == 0:
                raw = mutate_bytes(raw, rng)
            writer.put(b"%08d" % index, raw)
    text = (
        f'layer {{ name: "d" type: "Data" top: "d" top: "l" data_param {{ source: '
        f'"{path}" backend: LMDB batch_size: 2 }} transform_param {{ '
        f"{rng.choice(('', 'crop_size: 5', 'mirror: true scale: 0.5'))} }} }}"
    )
    return lambda: run_net(text)


def leveldb(rng: random.Random, folder: Path) -> Callable[[], None]:
    """Files of a LevelDB."""
    path = folder / "db"
    shutil.copytree(GOLDEN / "data" / "gray_leveldb", path)
    victim = rng.choice(sorted(each for each in path.iterdir() if each.stat().st_size))
    victim.write_bytes(mutate_bytes(victim.read_bytes(), rng))
    text = (
        'layer { name: "d" type: "Data" top: "d" top: "l" data_param { source: '
        f'"{path}" backend: LEVELDB batch_size: 2 }} }}'
    )
    return lambda: run_net(text)


def hdf5_data(rng: random.Random, folder: Path) -> Callable[[], None]:
    """Files of HDF5Data, and the list of them."""
    path, listed = folder / "a.h5", folder / "list.txt"
    path.write_bytes(mutate_bytes((GOLDEN / "data" / "part0.h5").read_bytes(), rng))
    names = f"{path}\n"
    if rng.randrange(4) == 0:
        names = mutate_text(names, rng)
    listed.write_text(names, errors="surrogateescape")
    text = (
        'layer { name: "d" type: "HDF5Data" top: "data" top: "label" hdf5_data_param '
        f'{{ source: "{listed}" batch_size: 3 }} }}'
    )
    return lambda: run_net(text)


def image(rng: random.Random, folder: Path) -> Callable[[], None]:
    """Encoded images."""
    source = rng.choice(sorted((GOLDEN / "data" / "images").iterdir()))
    data = mutate_bytes(source.read_bytes(), rng)
    (folder / source.name).write_bytes(data)
    mode = rng.choice(list(ColorMode))
    return lambda: done(decode_image(data, mode))


def mean(rng: random.Random, folder: Path) -> Callable[[], None]:
    """A mean image."""
    path = folder / "mean.binaryproto"
    data = (GOLDEN / "data" / "mean.binaryproto").read_bytes()
    if rng.randrange(2):
        message = messages.BlobProto.FromString(data)
        mutate_message(message, rng)
        data = message.SerializePartialToString()
    else:
        data = mutate_bytes(data, rng)
    path.write_bytes(data)
    return lambda: done(read_mean(path))


def image_list(rng: random.Random, folder: Path) -> Callable[[], None]:
    """The list of ImageData."""
    path = folder / "list.txt"
    text = "img_00.png 0\nimg_01.jpg 1\nimg_02.png 2\n"
    path.write_text(mutate_text(text, rng), errors="surrogateescape")
    net = (
        'layer { name: "d" type: "ImageData" top: "d" top: "l" image_data_param { '
        f'source: "{path}" root_folder: "{GOLDEN / "data" / "images"}/" batch_size: 2 '
        "new_height: 16 new_width: 16 } }"
    )
    return lambda: run_net(net)


def window_file(rng: random.Random, folder: Path) -> Callable[[], None]:
    """The list of WindowData."""
    path = folder / "windows.txt"
    for name in ("img_00.png", "img_01.jpg"):
        shutil.copy(GOLDEN / "data" / "images" / name, folder)
    text = "".join(
        f"# {i}\n{folder / name}\n3\n32\n32\n3\n1 0.9 1 1 9 9\n0 0.1 0 0 8 8\n"
        "2 0.7 2 3 9 9\n"
        for i, name in enumerate(("img_00.png", "img_01.jpg"))
    )
    path.write_text(mutate_text(text, rng), errors="surrogateescape")
    mode = rng.choice(("warp", "square"))
    net = (
        'layer { name: "d" type: "WindowData" top: "d" top: "l" transform_param { '
        f'crop_size: 7 }} window_data_param {{ source: "{path}" batch_size: 2 '
        f'fg_fraction: 0.5 context_pad: 1 crop_mode: "{mode}" }} }}'
    )
    return lambda: run_net(net)


TARGETS: dict[str, Target] = {
    each.__name__: each
    for each in (
        *(net_text, net_message, old_net, solver, caffemodel, caffemodel_h5),
        *(solverstate, records, leveldb, hdf5_data, image, mean),
        *(image_list, window_file),
    )
}
