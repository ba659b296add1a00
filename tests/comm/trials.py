"""Small trainings that run as a cluster and alone: what they train, and how.

A `Trial` says everything about one; `ranks/training.py` runs a list of them under
mpirun, `alone` runs the same in this process with the workers' batches together.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from poseidon_caffe.backend.gpu.emulator.device import EmulatedDevice
from poseidon_caffe.backend.gpu.emulator.stream import Schedule
from poseidon_caffe.backend.gpu.ops import GpuOps
from poseidon_caffe.backend.gpu.settings import GpuSettings
from poseidon_caffe.backend.protocols import Ops
from poseidon_caffe.backend.select import get_ops
from poseidon_caffe.cli.models import FAST
from poseidon_caffe.comm.settings import ClusterSettings
from poseidon_caffe.data.datum import array_to_datum
from poseidon_caffe.data.db import create_db
from poseidon_caffe.net.net import NetOptions
from poseidon_caffe.schema.upgrade import parse_net, parse_solver
from poseidon_caffe.solver.events import GradientsClipped, IterationDisplayed
from poseidon_caffe.solver.solver import Solver, SolverOptions
from poseidon_caffe.types import Array, Shard

RECORDS = 37  # divides no batch
FAR = 5  # the record that may be far off: in every epoch another worker's
BATCH = 4

# Rates at which no ReLU or maximum comes so near its kink that float32 and float64 in
# one process differ by more than rounding: that would say nothing about a cluster.
SOLVERS = {
    "SGD": "base_lr: 0.05 momentum: 0.9",
    "Nesterov": "base_lr: 0.02 momentum: 0.9",
    "AdaGrad": "base_lr: 0.02",
    "RMSProp": "base_lr: 0.0015 rms_decay: 0.9",
    "AdaDelta": "base_lr: 1 momentum: 0.95 delta: 1e-5",
    "Adam": "base_lr: 0.002 momentum: 0.9 momentum2: 0.999",
}

_DATA = """
layer {{ name: "data" type: "Data" top: "data" top: "label"
  transform_param {{ scale: 0.0078125 mean_value: 128 }}
  data_param {{ source: "{source}" backend: LMDB batch_size: {batch} }} }}
"""
_CONV = """
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  param { lr_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
  convolution_param { num_output: 6 kernel_size: 3
    weight_filler { type: "xavier" } } }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool"
  pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
"""
_END = """
layer { name: "relu" type: "ReLU" bottom: "ip1" top: "ip1" }
layer { name: "ip2" type: "InnerProduct" bottom: "ip1" top: "ip2"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" }
    bias_filler { type: "constant" value: 0.1 } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip2" bottom: "label"
  top: "loss" }
"""
_IP1 = """
layer {{ name: "{name}" type: "InnerProduct" bottom: "{bottom}" top: "{top}"
  param {{ {shared} lr_mult: 1 }} param {{ lr_mult: 2 decay_mult: 0 }}
  inner_product_param {{ num_output: 24 weight_filler {{ type: "xavier" }} }} }}
"""

NETS = {
    "plain": _CONV
    + _IP1.format(name="ip1", bottom="pool", top="ip1", shared="")
    + _END,
    # Two layers use the same weights, on different bottoms; a third never learns.
    "shared": _CONV
    + """
layer { name: "still" type: "Scale" bottom: "pool" top: "still"
  param { lr_mult: 0 decay_mult: 0 } param { lr_mult: 0 decay_mult: 0 }
  scale_param { filler { value: 0.7 } bias_term: true } }
layer { name: "pool_relu" type: "ReLU" bottom: "still" top: "pool_relu" }
"""
    + _IP1.format(name="ipA", bottom="pool", top="ipA", shared='name: "both"')
    + _IP1.format(name="ipB", bottom="pool_relu", top="ipB", shared='name: "both"')
    + """
layer { name: "sum" type: "Eltwise" bottom: "ipA" bottom: "ipB" top: "ip1" }
"""
    + _END,
    # A bias before BatchNorm has no gradient but rounding errors.
    "batch_norm": _CONV.replace("kernel_size: 3\n", "kernel_size: 3 bias_term: false\n")
    .replace("param { lr_mult: 2 decay_mult: 0 }", "")
    + """
layer { name: "bn" type: "BatchNorm" bottom: "pool" top: "bn" }
layer { name: "scale" type: "Scale" bottom: "bn" top: "scale"
  scale_param { bias_term: true } }
"""
    + _IP1.format(name="ip1", bottom="scale", top="ip1", shared="")
    + _END,
}  # fmt: skip
# What changes a BatchNorm's top in place is done by the BatchNorm.
# Gradients from labels far off are more than float16 holds.
NETS["regression"] = (
    NETS["plain"]
    .replace("num_output: 3 ", "num_output: 1 ")
    .replace("SoftmaxWithLoss", "EuclideanLoss")
)
# Gradients of what never learns are there, and count where they are clipped.
NETS["forced"] = "force_backward: true" + NETS["shared"]
NETS["fused"] = (
    NETS["batch_norm"]
    .replace('bottom: "bn" top: "scale"', 'bottom: "bn" top: "bn"')
    .replace('bottom: "scale"', 'bottom: "bn"')
)


@dataclass(frozen=True)
class Trial:
    """One training.

    Attributes:
        name: of its files.
        workers, servers: ranks of each kind.
        backend: "cpu" (float32, as fast as it goes), "reference" (float64), "gpu"
            (emulated, float32; `alone` runs on the CPU), or "half" (emulated, float16;
            `alone` too).
        solver: key of `SOLVERS`; ``more`` is further text of the solver's prototxt.
        net: key of `NETS`.
        settings: of the cluster, `ClusterSettings` by name.
        merge_bytes: of small slots.
        pooled: BatchNorm over all workers.
        nccl: every rank updates itself, with means as NCCL would make them.
        device_factors: MPI takes factors from and to the memory of the device.
        iterations: how many.
        batch: of a worker.
    """

    name: str
    workers: int
    servers: int = 0
    backend: str = "reference"
    solver: str = "SGD"
    more: str = ""
    net: str = "plain"
    settings: dict[str, Any] = field(default_factory=dict)
    merge_bytes: int = 2048
    pooled: bool = False
    nccl: bool = False
    device_factors: bool = False
    iterations: int = 30
    batch: int = BATCH

    @property
    def ranks(self) -> int:
        return self.workers + self.servers

    @property
    def cluster_settings(self) -> ClusterSettings:
        return ClusterSettings(
            servers=self.servers, **{"row_bytes": 1024, **self.settings}
        )


class Recorder:
    """Keeps what the solver tells of losses and clipped gradients."""

    def __init__(self) -> None:
        self.losses: list[tuple[float, ...]] = []
        self.clips: list[tuple[float, ...]] = []

    def on_event(self, event: object) -> None:
        if isinstance(event, IterationDisplayed):
            values = [output.value for output in event.outputs]
            self.losses.append((event.iteration, event.loss, *values))
        elif isinstance(event, GradientsClipped):
            self.clips.append((event.iteration, event.norm, event.scale))


@dataclass(frozen=True)
class Result:
    """What a training made, by name: parameters, histories, the log's numbers.

    Attributes:
        arrays: in float64 or float32, as they were.
        plan: the cluster's: how many rows and owners, how many pieces at most in a
            row, which slots travel as factors; how often rank 0 replayed each recorded
            section of its steps.
        digests: of each worker's parameters.
        scales: each worker's loss scale, None where it has none.
    """

    arrays: dict[str, Array]
    plan: dict[str, Any] = field(default_factory=dict)
    digests: tuple[str, ...] = ()
    scales: tuple[dict[str, Any] | None, ...] = ()


def make_records(folder: Path, far: int | None = None) -> Path:
    """An LMDB of small images in three classes, one of them ``far`` off if given."""
    random = np.random.default_rng(8)
    source = folder / "records"
    with create_db(str(source)) as writer:
        for i in range(RECORDS):
            image = random.integers(0, 256, (1, 8, 8)).astype(np.uint8)
            label = int(random.integers(3))
            if far is not None and i == FAR:
                label = far
            datum = array_to_datum(image, label)
            writer.put(b"%08d" % i, datum.SerializeToString())
    return source


def ops_of(backend: str, seed: int = 0) -> Ops:
    """The backend; a GPU's streams work in an order that depends on the seed."""
    if backend not in {"gpu", "half"}:
        return get_ops(backend, 1)
    device = EmulatedDevice(schedule=Schedule(seed=seed))
    precision = "fp16" if backend == "half" else "fp32"
    settings = GpuSettings(emulated=True, precision=precision)
    return GpuOps(device, get_ops("cpu", 1), settings)


def make_solver(
    trial: Trial, source: Path, shard: Shard, recorder: Recorder, *, batches: int = 1
) -> Solver:
    """The solver of one worker, or of one process with ``batches`` batches in one."""
    data = _DATA.format(source=source, batch=trial.batch * batches)
    param = parse_solver(
        f'type: "{trial.solver}" {SOLVERS[trial.solver]} lr_policy: "step" gamma: 0.9 '
        "stepsize: 7 weight_decay: 0.001 max_iter: 1000 display: 5 random_seed: 3 "
        "average_loss: 3 snapshot_after_train: false "
    )
    param.MergeFrom(parse_solver(trial.more))
    param.net_param.CopyFrom(parse_net('name: "trial"' + data + NETS[trial.net]))
    is_fast = trial.backend != "reference"
    return Solver(
        param,
        ops=ops_of(trial.backend, shard.rank),
        options=SolverOptions(
            net=FAST if is_fast else NetOptions(),
            dtype=np.float32 if is_fast else np.float64,
        ),
        shard=shard,
        events=[recorder],
    )


def arrays_of(solver: Solver, recorder: Recorder) -> dict[str, Array]:
    """Everything that training has made."""
    found, slots = {}, solver.net.slots
    for slot in slots:
        found[f"value {slot.name}"] = solver.net.learnable[slot.index].cpu_data.copy()
        for k, array in enumerate(solver.history.shaped()[slot.index :: len(slots)]):
            found[f"history {k} {slot.name}"] = array.reshape(-1).copy()
    found["losses"] = np.array(recorder.losses)
    found["clips"] = np.array(recorder.clips)
    return found


def alone(trial: Trial, source: Path) -> Result:
    """The same training in this process, with all workers' batches as one."""
    kept = replace(
        trial, name="", workers=0, servers=0, settings={}, pooled=False, nccl=False,
        device_factors=False,
    )  # fmt: skip
    if trial.backend == "gpu":
        kept = replace(kept, backend="cpu")
    key = json.dumps({**asdict(kept), "merge_bytes": 0})
    return _alone(key, source, trial.workers)


@cache
def _alone(key: str, source: Path, batches: int) -> Result:
    trial = Trial(**json.loads(key))
    recorder = Recorder()
    solver = make_solver(trial, source, Shard(), recorder, batches=batches)
    scale = solver.net.loss_scale
    if scale is not None:
        # So that gradients of activations, of means over more images, are the same.
        state = scale.state()
        scale.restore_state({**state, "factor": state["factor"] * batches})
    solver.step(trial.iterations)
    solver.close()
    scales = () if scale is None else (scale.state(),)
    return Result(arrays_of(solver, recorder), scales=scales)


def save_trials(folder: Path, trials: Iterable[Trial]) -> None:
    """For `load_trials` in the ranks."""
    text = json.dumps([asdict(trial) for trial in trials])
    (folder / "trials.json").write_text(text)


def load_trials(folder: Path) -> list[Trial]:
    return [Trial(**each) for each in json.loads((folder / "trials.json").read_text())]


def load_result(folder: Path, trial: Trial) -> Result:
    """What the ranks have written about a trial."""
    with np.load(folder / f"{trial.name}.npz") as file:
        arrays = dict(file)
    about = json.loads((folder / f"{trial.name}.json").read_text())
    digests, scales = tuple(about["digests"]), tuple(about["scales"])
    return Result(arrays, about["plan"], digests, scales)


def differences(found: Result, expected: Result) -> dict[str, float]:
    """Largest difference of each array, in parts of its largest value."""
    assert found.arrays.keys() == expected.arrays.keys()
    return {
        name: distance(found.arrays[name], array)
        for name, array in expected.arrays.items()
    }


def distance(found: Array, expected: Array) -> float:
    """Largest difference in parts of the largest value expected."""
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    if not expected.size:
        return 0.0
    scale = float(np.abs(expected).max())
    off = float(np.abs(found - expected).max())
    return off / scale if scale else off


def unequal(found: Result, expected: Result, limit: float) -> list[str]:
    """Names and differences of what is off by more than ``limit``."""
    return [
        f"{name}: {off:.3g}"
        for name, off in differences(found, expected).items()
        if not off <= limit
    ]


def named(trials: Sequence[Trial]) -> dict[str, Trial]:
    """By name; no name twice."""
    found = {trial.name: trial for trial in trials}
    assert len(found) == len(trials), "two trials of one name"
    return found
