"""The modules that pycaffe is made of have all of its names."""

from __future__ import annotations

import pytest

from poseidon_caffe import caffe

SOLVERS = "SGDSolver NesterovSolver AdaGradSolver RMSPropSolver AdaDeltaSolver "
SOLVERS += "AdamSolver "
FACE = SOLVERS + (
    "Net NCCL Timer init_log log set_mode_cpu set_mode_gpu set_device Layer get_solver "
    "layer_type_list set_random_seed solver_count set_solver_count solver_rank "
    "set_solver_rank set_multiprocess has_nccl __version__ TRAIN TEST Classifier "
    "Detector io layers params NetSpec to_proto proto net_spec pycaffe _caffe"
)
COMPILED = SOLVERS + (
    "Net Blob Layer Solver SolverParameter LayerParameter NCCL Timer BlobVec "
    "RawBlobVec LayerVec StringVec IntVec DtypeVec NetVec BoolVec init_log log "
    "get_solver layer_type_list has_nccl set_random_seed __version__"
)
NET = (
    "_forward _backward reshape clear_param_diffs copy_from share_with "
    "_blob_loss_weights _bottom_ids _top_ids _blobs layers _blob_names _layer_names "
    "_inputs _outputs _set_input_arrays save save_hdf5 load_hdf5 before_forward "
    "after_forward before_backward after_backward blobs blob_loss_weights layer_dict "
    "params forward backward forward_all forward_backward_all set_input_arrays _batch "
    "inputs outputs top_names bottom_names"
)
SOLVER = "net test_nets iter add_callback solve step restore snapshot share_weights "
SOLVER += "apply_update param lr"
BLOB = "shape num channels height width count reshape data diff"


@pytest.mark.parametrize(
    ("place", "names"),
    [
        (caffe, FACE),
        (caffe._caffe, COMPILED),
        (caffe.pycaffe, SOLVERS + "Net NCCL Timer io"),
        (caffe.Net, NET),
        (caffe.SGDSolver, SOLVER),
        (caffe.Blob, BLOB),
        (caffe.Layer, "blobs setup reshape type"),
        (caffe.Timer, "start stop ms"),
    ],
)
def test_has_all_names(place, names):
    assert [name for name in names.split() if not hasattr(place, name)] == []


def test_solver_settings_are_attributes(solver_file):
    param = caffe.get_solver(solver_file).param
    assert (param.max_iter, param.display, param.layer_wise_reduce) == (6, 2, True)
    assert isinstance(param, caffe._caffe.SolverParameter)
