from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.gpu.settings import GpuSettings
from poseidon_caffe.backend.select import get_ops
from poseidon_caffe.errors import BackendError, UsageError


@pytest.mark.parametrize("name", ["reference", "numpy"])
def test_numpy_backends(name):
    ops = get_ops(name)
    assert (ops.name, ops.note) == (name, None)
    assert ops.supports_float64
    assert not ops.channels_last
    y = np.empty(2)
    ops.relu(np.array([-1.0, 2.0]), y)
    assert y.tolist() == [0, 2]


def test_cpu_is_onednn_or_says_why_not():
    ops = get_ops("cpu", threads=1)
    assert ops.name in {"cpu", "numpy"}
    if ops.name == "numpy":
        assert "oneDNN" in ops.note
        assert "slower" in ops.note


def test_refusals():
    with pytest.raises(
        BackendError, match='no backend "tpu"; there are cpu, gpu, numpy'
    ):
        get_ops("tpu")
    with pytest.raises(UsageError, match="at least 1, not 0"):
        get_ops("cpu", threads=0)


@pytest.mark.parametrize("name", ["cpu", "numpy", "reference"])
def test_no_16_bits_on_a_cpu(name):
    with pytest.raises(UsageError, match="precision fp16 needs a GPU"):
        get_ops(name, gpu=GpuSettings(precision="fp16"))
    assert get_ops(name).activation_dtype is None
    assert get_ops(name).loss_scale() is None
