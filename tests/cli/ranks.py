"""Runs ``poseidon train`` on this rank as on a host of its own.

Beside what all ranks share, rank R works in the folder ``rankR`` where there is one,
and takes further flags from the file ``flags`` in it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from poseidon_caffe.cli.main import run

if __name__ == "__main__":
    own = Path(f"rank{os.environ['OMPI_COMM_WORLD_RANK']}")
    if own.is_dir():
        os.chdir(own)
    extra = Path("flags").read_text().split() if Path("flags").exists() else []
    sys.exit(run(["train", "--solver=solver.prototxt", *sys.argv[1:], *extra]))
