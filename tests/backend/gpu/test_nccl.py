"""What can be said of NCCL without GPUs."""

from __future__ import annotations

from poseidon_caffe.backend.gpu.nccl import NcclId, nccl_problem
from tests.devices import ON_CUDA


def test_an_id_is_what_cupy_gave():
    assert NcclId([1, 255], is_bytes=True).raw() == b"\x01\xff"
    assert NcclId([1, -1], is_bytes=False).raw() == (1, -1)


def test_where_it_is_missing_the_reason_is_told():
    problem = nccl_problem()
    if problem is None:
        assert ON_CUDA
    else:
        assert "NCCL" in problem
