from __future__ import annotations

import pytest

from poseidon_caffe import caffe
from poseidon_caffe.errors import BackendError


def test_is_there_and_says_that_it_cannot():
    assert caffe.has_nccl() is False
    for call in (caffe.NCCL.new_uid, lambda: caffe.NCCL(None, b"uid")):
        with pytest.raises(BackendError, match="mpirun -n N poseidon train"):
            call()
