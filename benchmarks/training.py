"""Whole training runs: ``poseidon train`` on an LMDB, PyTorch's usual loop."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks import nets
from poseidon_caffe.data.db import create_db
from poseidon_caffe.schema.messages import Datum
from poseidon_caffe.schema.text import to_prototxt

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "bench"
_SPEED = re.compile(r"Iteration \d+ \(([\d.e+]+) iter/s")
_BORDER = 29  # ImageNet records are stored larger than the crop: 256 to 227.
_SMALL_PIXELS = 100


def database(case: nets.Case) -> Path:
    """An LMDB of random images for the case; ImageNet's are cropped."""
    channels, height, width = case.image
    border = _BORDER if height > _SMALL_PIXELS else 0
    target = WORK / f"{case.model}_lmdb"
    if target.exists():
        return target
    rng = np.random.default_rng(3)
    with create_db(str(target), "LMDB") as db:
        for i in range(4 * case.batch):
            shape = (channels, height + border, width + border)
            pixels = rng.integers(0, 256, shape, dtype=np.uint8)
            datum = Datum(
                channels=channels, height=shape[1], width=shape[2],
                data=pixels.tobytes(), label=int(rng.integers(case.classes)),
            )  # fmt: skip
            db.put(f"{i:08d}".encode(), datum.SerializeToString())
    return target


def solver_file(case: nets.Case, iterations: int, display: int) -> Path:
    """A solver prototxt for the case: SGD with momentum and weight decay."""
    param = nets.training_net(case)
    for layer in param.layer:
        if layer.type == "Input":
            layer.type = "Data"
            layer.ClearField("input_param")
            layer.data_param.source = str(database(case))
            layer.data_param.backend = layer.data_param.LMDB
            layer.data_param.batch_size = case.batch
            layer.transform_param.scale = 1 / 256
            if case.image[1] > _SMALL_PIXELS:
                layer.transform_param.crop_size = case.image[1]
                layer.transform_param.mirror = True
    net = WORK / f"{case.model}_net.prototxt"
    net.write_text(to_prototxt(param), encoding="utf-8")
    solver = WORK / f"{case.model}_solver.prototxt"
    solver.write_text(
        f'net: "{net}"\nbase_lr: 1e-6 lr_policy: "fixed" momentum: 0.9\n'
        f"weight_decay: 0.0005 max_iter: {iterations} display: {display}\n"
        f'snapshot_prefix: "{WORK / case.model}" snapshot_after_train: false\n'
        "solver_mode: CPU random_seed: 1\n",
        encoding="utf-8",
    )
    return solver


def _run(command: list[str], env: dict[str, str]) -> tuple[str, float]:
    """The command's standard error and its peak memory in MB."""
    log = WORK / "train.log"
    with log.open("w", encoding="utf-8") as stream:
        process = subprocess.Popen(
            command, stderr=stream, cwd=ROOT, env={**os.environ, **env}
        )
        _, status, usage = os.wait4(process.pid, 0)
    text = log.read_text(encoding="utf-8")
    if status:
        raise SystemExit(f"{command} failed:\n{text}")
    return text, usage.ru_maxrss / 1024


def measure(case: nets.Case, threads: int, malloc: dict[str, str]) -> dict[str, Any]:
    """Speed of ``poseidon train`` as a share of forward and backward alone; memory."""
    from benchmarks.run import Worker

    WORK.mkdir(parents=True, exist_ok=True)
    worker = Worker("poseidon", case, threads)
    worker.go(2)
    rough_ms = worker.times_ms.pop()
    display = max(2, min(100, int(1000 / rough_ms)))
    solver = solver_file(case, display * 7, display)
    train_ms, peaks = [], []
    for _ in range(3):
        worker.go(display)
        text, peak = _run(
            [sys.executable, "-m", "poseidon_caffe", "train", "--solver", str(solver),
             "--threads", str(threads)],
            {},
        )  # fmt: skip
        # The first line is iteration 0's; the next still warms up.
        speeds = [float(x) for x in _SPEED.findall(text)][2:]
        train_ms.append(1e3 / median(speeds))
        peaks.append(peak)
    worker.go(display)
    worker.close()
    step_ms = median(worker.times_ms)
    torch_mb = [
        _run(
            [sys.executable, "-m", "benchmarks.torch_train", case.name, str(threads),
             form],
            malloc,
        )[1]
        for form in ("plain", "last")
    ]  # fmt: skip
    return {
        "case": case.name,
        "step_ms": step_ms,
        "train_ms": median(train_ms),
        "share": step_ms / median(train_ms),
        "poseidon_mb": median(peaks),
        "torch_mb": min(torch_mb),
    }
