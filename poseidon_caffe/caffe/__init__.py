"""The pycaffe face: ``from poseidon_caffe import caffe`` in place of ``import caffe``.

Nets, solvers, blobs, messages and modes under the names that scripts written for
pycaffe use; ``docs/pycaffe.md`` lists them and what differs.
"""

from __future__ import annotations

from poseidon_caffe.caffe import (
    _caffe,
    alias,
    coord_map,
    draw,
    io,
    layers,
    net_spec,
    params,
    proto,
    pycaffe,
)
from poseidon_caffe.caffe._caffe import __version__
from poseidon_caffe.caffe.blob import Blob
from poseidon_caffe.caffe.classifier import Classifier
from poseidon_caffe.caffe.detector import Detector
from poseidon_caffe.caffe.glog import init_log, log
from poseidon_caffe.caffe.layer import Layer
from poseidon_caffe.caffe.nccl import NCCL
from poseidon_caffe.caffe.net import Net
from poseidon_caffe.caffe.net_spec import NetSpec, to_proto
from poseidon_caffe.caffe.proto import caffe_pb2
from poseidon_caffe.caffe.proto.caffe_pb2 import TEST, TRAIN
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
    use_backend,
)
from poseidon_caffe.caffe.timer import Timer
from poseidon_caffe.layers.registry import known_types as layer_type_list

__all__ = [
    "NCCL",
    "TEST",
    "TRAIN",
    "AdaDeltaSolver",
    "AdaGradSolver",
    "AdamSolver",
    "Blob",
    "Classifier",
    "Detector",
    "Layer",
    "NesterovSolver",
    "Net",
    "NetSpec",
    "RMSPropSolver",
    "SGDSolver",
    "Solver",
    "Timer",
    "__version__",
    "_caffe",
    "alias",
    "caffe_pb2",
    "coord_map",
    "draw",
    "get_solver",
    "has_nccl",
    "init_log",
    "io",
    "layer_type_list",
    "layers",
    "log",
    "net_spec",
    "params",
    "proto",
    "pycaffe",
    "set_device",
    "set_mode_cpu",
    "set_mode_gpu",
    "set_multiprocess",
    "set_random_seed",
    "set_solver_count",
    "set_solver_rank",
    "solver_count",
    "solver_rank",
    "to_proto",
    "use_backend",
]
