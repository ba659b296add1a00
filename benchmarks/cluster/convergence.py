"""Trainings of 1, 2 and 4 ranks side by side: the same accuracy, whatever their number.

``python benchmarks/cluster/convergence.py`` trains LeNet on the built-in digits and
CIFAR-quick on a made set, several seeds each, with ``--scaling strong`` (one batch for
all ranks together), LeNet also with ``--staleness 3``.  Curves go to
``build/convergence/`` as CSV and JSON; the picture to ``docs/images/convergence.png``,
if matplotlib is found (``pip install --target build/bench/site-packages matplotlib``).
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from poseidon_caffe.data.datum import array_to_datum  # noqa: E402
from poseidon_caffe.data.db import create_db  # noqa: E402
from poseidon_caffe.data.digits import build_digits  # noqa: E402
from poseidon_caffe.data.resize import resize  # noqa: E402
from poseidon_caffe.schema.printer import to_prototxt  # noqa: E402
from poseidon_caffe.schema.upgrade import read_net, read_solver  # noqa: E402
from poseidon_caffe.types import Array, Phase  # noqa: E402

__all__ = [
    "CASES",
    "STALE_MOMENTUM",
    "WAYS",
    "Case",
    "Curve",
    "Way",
    "prepare",
    "summary",
    "train",
]

OUTPUT = ROOT / "build" / "convergence"
IMAGE = ROOT / "docs" / "images" / "convergence.png"
EXTRA_PACKAGES = ROOT / "build" / "bench" / "site-packages"
_TESTED = re.compile(r"Iteration (\d+), Testing net|output #0: accuracy = ([\d.e+-]+)")
_LOSS = re.compile(r"Iteration (\d+) \([^)]*\), loss = ([\d.e+-]+)")
_CLASSES, _SIDE = 10, 32
TEST_BATCH = 60


@dataclass(frozen=True)
class Case:
    """A net, its data and how long it is trained.

    Attributes:
        name: of its files.
        solver: prototxt, from the repository's root.
        batch: of all ranks together.
        test_count: records that are tested.
        iterations, test_every: how many.
    """

    name: str
    solver: str
    batch: int
    test_count: int
    iterations: int = 300
    test_every: int = 25


CASES = {
    "lenet": Case("lenet", "models/lenet/digits_solver.prototxt", 64, 360),
    "cifar10_quick": Case(
        "cifar10_quick", "models/cifar10_quick/solver.prototxt", 60, 600
    ),
}


@dataclass(frozen=True)
class Way:
    """How many ranks, their flags, and a momentum if not the solver's own."""

    ranks: int
    flags: tuple[str, ...] = ()
    momentum: float | None = None

    @property
    def name(self) -> str:
        """For tables and legends."""
        ranks = "1 rank" if self.ranks == 1 else f"{self.ranks} ranks"
        said = [flag.removeprefix("--") for flag in self.flags]
        if self.momentum is not None:
            said.append(f"momentum={self.momentum:g}")
        return " ".join((ranks, *said))


_IN_STEP = (Way(1), Way(2), Way(4))
# Old gradients act like more momentum (Mitliagkas et al., "Asynchrony begets Momentum",
# 2016).  CIFAR-quick's rate and momentum, tuned without, leave no room for that; nor
# does LeNet's momentum of 0.9: gradients that are always three iterations old make it
# diverge in one process too.  With 0.7 even five iterations do not.
STALE_MOMENTUM = 0.7
WAYS = {
    "lenet": (*_IN_STEP, Way(4, ("--staleness=3",), STALE_MOMENTUM)),
    "cifar10_quick": _IN_STEP,
}


@dataclass(frozen=True)
class Curve:
    """One training.

    Attributes:
        case, way: names.
        seed: of its first values.
        tests: (iteration, accuracy).
        losses: (iteration, training loss).
    """

    case: str
    way: str
    seed: int
    tests: list[tuple[int, float]]
    losses: list[tuple[int, float]]

    @property
    def final(self) -> float:
        """Accuracy at the end."""
        return self.tests[-1][1]


def prepare(case: Case, folder: Path) -> None:
    """Make the case's LMDBs, ``train`` and ``test``, in ``folder``."""
    if (folder / "test").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    if case.name == "lenet":
        for made in build_digits(folder):
            shutil.move(made, folder / made.name.split("_")[1])
        return
    for name, count, seed in (("train", 3000, 1), ("test", case.test_count, 2)):
        with create_db(str(folder / name)) as writer:
            for i, (image, label) in enumerate(_made(count, seed)):
                datum = array_to_datum(image, label)
                writer.put(b"%08d" % i, datum.SerializeToString())


def _made(count: int, seed: int) -> Iterator[tuple[Array, int]]:
    """Ten coloured patterns, shifted, faint and under noise: (uint8 image, class)."""
    small = np.random.RandomState(0).randint(0, 256, (_CLASSES * 3, 6, 6))
    patterns = resize(small.astype(np.uint8), _SIDE, _SIDE) - 128.0
    patterns = patterns.reshape(_CLASSES, 3, _SIDE, _SIDE)
    draw = np.random.RandomState(seed)
    for _ in range(count):
        label = int(draw.randint(_CLASSES))
        shift = draw.randint(-6, 7, 2)
        image = np.roll(patterns[label], shift, (1, 2)) * draw.uniform(0.15, 0.5)
        image = image + draw.normal(0, 45, image.shape) + draw.normal(0, 15, (3, 1, 1))
        yield np.clip(image + 128, 0, 255).astype(np.uint8), label


def write_solver(
    case: Case, data: Path, folder: Path, seed: int, momentum: float | None = None
) -> Path:
    """The case's solver and net as files of ``folder``, on the records in ``data``."""
    solver = read_solver(ROOT / case.solver)
    if momentum is not None:
        solver.momentum = momentum
    net = read_net(ROOT / solver.net)
    for layer in net.layer:
        if layer.type == "Data":
            is_train = layer.include[0].phase == Phase.TRAIN
            layer.data_param.source = str(data / ("train" if is_train else "test"))
            # All ranks divide the one of training; the made set has no mean image.
            layer.data_param.batch_size = case.batch if is_train else TEST_BATCH
            layer.transform_param.ClearField("mean_file")
            if case.name != "lenet":
                layer.transform_param.mean_value.append(128)
    solver.net = str(folder / "net.prototxt")
    solver.max_iter, solver.test_interval = case.iterations, case.test_every
    solver.test_iter[:] = [case.test_count // TEST_BATCH]
    solver.display, solver.snapshot, solver.random_seed = 10, 0, seed
    solver.average_loss, solver.snapshot_after_train = 10, False
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "net.prototxt").write_text(to_prototxt(net), encoding="utf-8")
    path = folder / "solver.prototxt"
    path.write_text(to_prototxt(solver), encoding="utf-8")
    return path


def train(case: Case, way: Way, seed: int, output: Path = OUTPUT) -> Curve:
    """Train with the real program.

    Raises:
        RuntimeError: it failed; with its log.
    """
    data = output / f"{case.name}_data"
    prepare(case, data)
    solver = write_solver(case, data, output / case.name, seed, way.momentum)
    command = [
        sys.executable, "-m", "poseidon_caffe", "train", f"--solver={solver}",
        "--scaling=strong", *way.flags,
    ]  # fmt: skip
    if way.ranks > 1:
        beside = Path(sys.executable).with_name("mpirun")
        mpirun = str(beside) if beside.exists() else "mpirun"
        placed = ["--allow-run-as-root", "--map-by", ":OVERSUBSCRIBE"]
        placed += ["--bind-to", "none", "-n", str(way.ranks)]
        command = [mpirun, *placed, *command]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{case.name}, {way.name}: {done.stdout}{done.stderr}")
    return _curve(case, way, seed, done.stderr)


def _curve(case: Case, way: Way, seed: int, log: str) -> Curve:
    tests, at = [], 0
    for iteration, accuracy in _TESTED.findall(log):
        if iteration:
            at = int(iteration)
        else:
            tests.append((at, float(accuracy)))
    losses = [(int(i), float(loss)) for i, loss in _LOSS.findall(log)]
    if not tests or not losses:
        raise RuntimeError(f"nothing about {case.name} in the log:\n{log}")
    return Curve(case.name, way.name, seed, tests, losses)


def summary(curves: Sequence[Curve]) -> list[dict[str, Any]]:
    """Final accuracy of each case and way: mean, least and greatest over seeds."""
    rows = []
    for case, way in dict.fromkeys((each.case, each.way) for each in curves):
        finals = [each.final for each in curves if (each.case, each.way) == (case, way)]
        found = {"mean": mean(finals), "least": min(finals), "greatest": max(finals)}
        rows.append({"case": case, "way": way, "seeds": len(finals), **found})
    return rows


def save(curves: Sequence[Curve], output: Path) -> None:
    """All points as CSV, everything as JSON."""
    with (output / "curves.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["case", "way", "seed", "quantity", "iteration", "value"])
        for each in curves:
            about = [each.case, each.way, each.seed]
            writer.writerows([*about, "accuracy", *point] for point in each.tests)
            writer.writerows([*about, "loss", *point] for point in each.losses)
    found = {"summary": summary(curves), "curves": [asdict(each) for each in curves]}
    (output / "curves.json").write_text(json.dumps(found, indent=1), encoding="utf-8")


def plot(curves: Sequence[Curve], path: Path) -> bool:
    """Draw loss and accuracy of all cases; False without matplotlib."""
    # Behind everything else: it may hold other packages too.
    sys.path.append(str(EXTRA_PACKAGES))
    try:
        import matplotlib as mpl
    except ImportError:
        return False
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    cases = list(dict.fromkeys(each.case for each in curves))
    ways = list(dict.fromkeys(each.way for each in curves))
    figure, grid = plt.subplots(
        2, len(cases), figsize=(5.5 * len(cases), 6), sharex="col", squeeze=False
    )
    for column, case in enumerate(cases):
        for k, way in enumerate(ways):
            _draw(
                grid[:, column],
                [c for c in curves if (c.case, c.way) == (case, way)],
                k,
            )
        grid[0, column].set_title(case)
        grid[1, column].set_xlabel("iteration")
    grid[0, 0].set_ylabel("training loss")
    grid[1, 0].set_ylabel("test accuracy")
    grid[0, 0].legend()
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return True


def _draw(axes: Sequence[Any], curves: Sequence[Curve], k: int) -> None:
    """The mean over seeds as a line, their range as a shade."""
    if not curves:
        return
    style = {"color": f"C{k}", "linestyle": ("-", "--", "-.", ":")[k % 4]}
    for axis, name in zip(axes, ("losses", "tests"), strict=True):
        points = np.array([getattr(each, name) for each in curves])
        x, values = points[0, :, 0], points[:, :, 1]
        axis.plot(x, values.mean(axis=0), label=curves[0].way, **style)
        low, high = values.min(axis=0), values.max(axis=0)
        axis.fill_between(x, low, high, color=style["color"], alpha=0.12, linewidth=0)
        axis.grid(alpha=0.3)


def main() -> None:
    """Train, save, draw and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    curves = []
    print("| net | ranks | seed | final accuracy |\n| --- | --- | --- | --- |")
    for name in args.cases:
        for seed in range(1, args.seeds + 1):
            for way in WAYS[name]:
                curves.append(train(CASES[name], way, seed))
                row = f"| {name} | {way.name} | {seed} | {curves[-1].final:.4f} |"
                print(row, flush=True)
    save(curves, OUTPUT)
    print(
        "\n| net | ranks | mean | least | greatest |\n| --- | --- | --- | --- | --- |"
    )
    for row in summary(curves):
        cells = [f"{row[key]:.4f}" for key in ("mean", "least", "greatest")]
        print(f"| {row['case']} | {row['way']} | {' | '.join(cells)} |")
    if not plot(curves, IMAGE):
        print("no plot: matplotlib is missing")


if __name__ == "__main__":
    main()
