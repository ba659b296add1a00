"""Runs the real program on a small net over the built-in digits."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["FATAL", "NET", "PROGRAM", "ROOT", "Workspace", "environment", "poseidon"]

PROGRAM = (sys.executable, "-m", "poseidon_caffe")
ROOT = Path(__file__).resolve().parent.parent.parent
FATAL = re.compile(r"^F\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ \S+\] poseidon: error: (.*)$")

NET = """
name: "Digits"
layer {{
  name: "digits" type: "Data" top: "data" top: "label"
  include {{ phase: TRAIN }}
  transform_param {{ scale: 0.00390625 }}
  data_param {{ source: "{data}/digits_train_lmdb" batch_size: 32 backend: LMDB }}
}}
layer {{
  name: "digits" type: "Data" top: "data" top: "label"
  include {{ phase: TEST }}
  transform_param {{ scale: 0.00390625 }}
  data_param {{ source: "{data}/digits_test_lmdb" batch_size: 60 backend: LMDB }}
}}
layer {{
  name: "ip1" type: "InnerProduct" bottom: "data" top: "ip1"
  inner_product_param {{ num_output: 16 weight_filler {{ type: "xavier" }} }}
}}
layer {{ name: "relu1" type: "ReLU" bottom: "ip1" top: "ip1" }}
layer {{
  name: "ip2" type: "InnerProduct" bottom: "ip1" top: "ip2"
  inner_product_param {{ num_output: 10 weight_filler {{ type: "xavier" }} }}
}}
layer {{
  name: "accuracy" type: "Accuracy" bottom: "ip2" bottom: "label" top: "accuracy"
  include {{ phase: TEST }}
}}
layer {{
  name: "loss" type: "SoftmaxWithLoss" bottom: "ip2" bottom: "label" top: "loss"
}}
"""

_SOLVER = {
    "net": '"net.prototxt"',
    "base_lr": "0.1",
    "lr_policy": '"fixed"',
    "momentum": "0.9",
    "max_iter": "100",
    "display": "20",
    "test_iter": "6",
    "test_interval": "50",
    "snapshot": "50",
    "snapshot_prefix": '"out"',
    "random_seed": "1",
}


def environment(**extra: str) -> dict[str, str]:
    """This process's variables, the checkout importable, glog's own unset."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("GLOG_")}
    return {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **extra}


def poseidon(
    *argv: str, cwd: Path | None = None, timeout_s: float = 120, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run ``python -m poseidon_caffe`` to its end."""
    return subprocess.run(
        [*PROGRAM, *argv],
        cwd=cwd,
        env=environment(**env),
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )


@dataclass
class Workspace:
    """A folder with a net and a solver, in which the program is run.

    Attributes:
        folder: where.
        data: folder of the digits' LMDBs.
        net: text of net.prototxt.
    """

    folder: Path
    data: Path
    net: str = ""
    solver: dict[str, str] = field(default_factory=lambda: dict(_SOLVER))

    def __post_init__(self) -> None:
        self.net = self.net or NET.format(data=self.data)
        self.write()

    def write(self, **solver: str) -> None:
        """Write both prototxts, the solver with other settings ("" leaves out)."""
        settings = {k: v for k, v in {**self.solver, **solver}.items() if v}
        lines = [f"{name}: {value}\n" for name, value in settings.items()]
        (self.folder / "net.prototxt").write_text(self.net)
        (self.folder / "solver.prototxt").write_text("".join(lines))

    def run(self, *argv: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the folder."""
        return poseidon(*argv, cwd=self.folder, **env)

    def train(self, *argv: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Train with solver.prototxt."""
        return self.run("train", "--solver=solver.prototxt", *argv, **env)

    def start(self, *argv: str, **options: object) -> subprocess.Popen[str]:
        """Begin training and return at once."""
        return subprocess.Popen(
            [*PROGRAM, "train", "--solver=solver.prototxt", *argv],
            cwd=self.folder,
            env=environment(),
            text=True,
            **{"stderr": subprocess.PIPE, **options},
        )

    def files(self) -> set[str]:
        """Names of what lies in the folder."""
        return {path.name for path in self.folder.iterdir()}
