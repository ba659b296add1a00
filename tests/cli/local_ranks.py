"""Does what ``poseidon train --gpu 0,1`` does, with ranks that compute on the CPU."""

from __future__ import annotations

import os
import sys

from poseidon_caffe.cli.common import COMMON
from poseidon_caffe.cli.flags import parse
from poseidon_caffe.cli.local_ranks import train_on
from poseidon_caffe.cli.train import COMMAND
from poseidon_caffe.report.console import INTERRUPTED
from poseidon_caffe.report.glog import Glog

if __name__ == "__main__":
    flags = ["--solver=solver.prototxt", *sys.argv[1:]]
    args = parse(flags, (*COMMAND.flags, *COMMON))
    try:
        sys.exit(train_on([0, 1], args, flags, dict(os.environ), Glog()))
    except KeyboardInterrupt:  # before mpirun ran; `main.run` does the same
        sys.exit(INTERRUPTED)
