"""Every kernel keeps to its arrays, and its threads do not race."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[4]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(shutil.which("g++") is None, reason="the emulator needs g++")
@pytest.mark.parametrize("folder", ["backend", "layers"])
def test_the_tests_of_kernels_pass_with_checks(folder: str) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-n", "2", "-m", "not slow"),
            *("-k", "gpu", "-p", "no:cacheprovider", f"tests/{folder}"),
        ],
        cwd=ROOT,
        env={**os.environ, "POSEIDON_EMULATOR_SANITIZE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
