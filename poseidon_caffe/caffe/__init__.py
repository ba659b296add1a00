"""The pycaffe face: ``from poseidon_caffe import caffe`` in place of ``import caffe``.

Nets, solvers, blobs, messages and modes under the names that scripts written for
pycaffe use; ``docs/pycaffe.md`` lists them and what differs.
"""

from __future__ import annotations

from poseidon_caffe.caffe import io, layers, net_spec, params
from poseidon_caffe.caffe.glog import init_log, log
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
    "TEST",
    "TRAIN",
    "AdaDeltaSolver",
    "AdaGradSolver",
    "AdamSolver",
    "NesterovSolver",
    "Net",
    "NetSpec",
    "RMSPropSolver",
    "SGDSolver",
    "Timer",
    "caffe_pb2",
    "get_solver",
    "has_nccl",
    "init_log",
    "io",
    "layer_type_list",
    "layers",
    "log",
    "net_spec",
    "params",
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

__version__ = "1.0.0"
"""The Caffe that scripts are to take this for; Poseidon's own version is
``poseidon_caffe.__version__``."""
