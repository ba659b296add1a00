"""``caffe.pycaffe``: where pycaffe keeps its nets and solvers."""

from __future__ import annotations

from poseidon_caffe.caffe import io
from poseidon_caffe.caffe.nccl import NCCL
from poseidon_caffe.caffe.net import Net
from poseidon_caffe.caffe.solver import (
    AdaDeltaSolver,
    AdaGradSolver,
    AdamSolver,
    NesterovSolver,
    RMSPropSolver,
    SGDSolver,
)
from poseidon_caffe.caffe.timer import Timer

__all__ = [
    "NCCL",
    "AdaDeltaSolver",
    "AdaGradSolver",
    "AdamSolver",
    "NesterovSolver",
    "Net",
    "RMSPropSolver",
    "SGDSolver",
    "Timer",
    "io",
]
