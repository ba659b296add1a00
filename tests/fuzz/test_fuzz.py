"""Wrong input of every kind: success or a PoseidonError, within time and memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TARGETS = (
    *("net_text", "net_message", "old_net", "solver", "caffemodel", "caffemodel_h5"),
    *("solverstate", "records", "leveldb", "hdf5_data", "image", "mean"),
    *("image_list", "window_file"),
)
ROOT = Path(__file__).resolve().parent.parent.parent
QUICK_S, SLOW_S = 0.5, 21.0


def fuzz(target: str, seed: int, seconds: float, folder: Path) -> None:
    """Run a worker to its end; whatever it died of is told with the case."""
    command = [sys.executable, "-m", "tests.fuzz.worker", target, str(seed), "0"]
    command += ["1000000", str(seconds), str(folder)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds + 120,
        check=False,
    )
    case = (folder / "current").read_text() if (folder / "current").exists() else ""
    assert done.returncode == 0, (
        f"{case} ended with {done.returncode}; files in {folder}\n"
        f"{done.stdout}\n{done.stderr[-4000:]}"
    )


@pytest.mark.parametrize("target", TARGETS)
def test_a_little(target, tmp_path):
    fuzz(target, 1, QUICK_S, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_for_five_minutes(target, tmp_path):
    fuzz(target, 2, SLOW_S, tmp_path)
