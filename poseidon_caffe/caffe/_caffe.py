"""``caffe._caffe``: the names of pycaffe's compiled half, for scripts that reach in."""

from __future__ import annotations

from poseidon_caffe.caffe.blob import Blob, BlobVec
from poseidon_caffe.caffe.glog import init_log, log
from poseidon_caffe.caffe.layer import Layer
from poseidon_caffe.caffe.nccl import NCCL
from poseidon_caffe.caffe.net import Net
from poseidon_caffe.caffe.proto.caffe_pb2 import LayerParameter, SolverParameter
from poseidon_caffe.caffe.solver import (
    AdaDeltaSolver,
    AdaGradSolver,
    AdamSolver,
    NesterovSolver,
    RMSPropSolver,
    SGDSolver,
    Solver,
    get_solver,
)
from poseidon_caffe.caffe.state import (
    has_nccl,
    set_device,
    set_mode_cpu,
    set_mode_gpu,
    set_multiprocess,
    set_random_seed,
    set_solver_count,
    set_solver_rank,
    solver_count,
    solver_rank,
)
from poseidon_caffe.caffe.timer import Timer
from poseidon_caffe.layers.registry import known_types as layer_type_list

__all__ = [
    "NCCL",
    "AdaDeltaSolver",
    "AdaGradSolver",
    "AdamSolver",
    "Blob",
    "BlobVec",
    "BoolVec",
    "DtypeVec",
    "IntVec",
    "Layer",
    "LayerParameter",
    "LayerVec",
    "NesterovSolver",
    "Net",
    "NetVec",
    "RMSPropSolver",
    "RawBlobVec",
    "SGDSolver",
    "Solver",
    "SolverParameter",
    "StringVec",
    "Timer",
    "get_solver",
    "has_nccl",
    "init_log",
    "layer_type_list",
    "log",
    "set_device",
    "set_mode_cpu",
    "set_mode_gpu",
    "set_multiprocess",
    "set_random_seed",
    "set_solver_count",
    "set_solver_rank",
    "solver_count",
    "solver_rank",
]

__version__ = "1.0.0"
"""The Caffe that scripts are to take this for; Poseidon's own version is
``poseidon_caffe.__version__``."""

# Where Caffe wraps C++ vectors, plain lists are handed out here.
RawBlobVec = LayerVec = StringVec = IntVec = DtypeVec = NetVec = BoolVec = list
