"""Which backend a GPU's settings open."""

from __future__ import annotations

import numpy as np
import pytest

from poseidon_caffe.backend.gpu.opening import open_gpu
from poseidon_caffe.backend.gpu.ops import GpuOps
from poseidon_caffe.backend.gpu.settings import GpuSettings
from poseidon_caffe.backend.reference import ReferenceOps
from poseidon_caffe.backend.select import get_ops
from poseidon_caffe.errors import BackendError
from tests.devices import ON_CUDA


def test_the_emulator():
    host = ReferenceOps()
    ops = open_gpu(GpuSettings(2, emulated=True), host)
    assert type(ops) is GpuOps
    assert (ops.name, ops.host, ops.note) == ("gpu", host, None)
    assert ops.device.index == 2
    assert ops.supports_float64
    assert not ops.memory.is_host


def test_the_environment_chooses_the_emulator(monkeypatch):
    monkeypatch.setenv("POSEIDON_GPU", "emulated")
    assert get_ops("gpu", 1).device.name == "Emulated GPU"


@pytest.mark.skipif(ON_CUDA, reason="there is a GPU")
def test_without_a_gpu_one_line_says_why(monkeypatch):
    monkeypatch.delenv("POSEIDON_GPU", raising=False)
    with pytest.raises(BackendError) as caught:
        get_ops("gpu", 1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("fp32", None), ("tf32", None), ("fp16", np.float16), ("bf16", np.uint16)],
)
def test_settings_reach_the_backend(precision, dtype):
    settings = GpuSettings(precision=precision, emulated=True, cuda_graph=False)
    ops = open_gpu(settings, ReferenceOps())
    assert ops.activation_dtype == dtype
    assert not ops.captures


@pytest.mark.parametrize(("asked", "got"), [(None, True), (True, True), (False, False)])
def test_layout(asked, got):
    settings = GpuSettings(emulated=True, channels_last=asked)
    assert open_gpu(settings, ReferenceOps()).channels_last is got


def test_pieces_of_work_run_in_turn():
    done = []
    ops = open_gpu(GpuSettings(emulated=True), ReferenceOps())
    ops.parallel([lambda: done.append(1), lambda: done.append(2)])
    assert done == [1, 2]
