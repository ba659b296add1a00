"""``python -m poseidon_caffe`` is the ``poseidon`` command."""

from __future__ import annotations

import sys

from poseidon_caffe.cli.main import run

if __name__ == "__main__":
    sys.exit(run())
