"""What a GPU may be asked for."""

from __future__ import annotations

import pytest

from poseidon_caffe.backend.gpu.settings import PRECISIONS, GpuSettings, is_emulated
from poseidon_caffe.errors import UsageError


def test_the_environment_asks_for_the_emulator(monkeypatch):
    monkeypatch.delenv("POSEIDON_GPU", raising=False)
    assert not is_emulated()
    assert not GpuSettings().emulated
    monkeypatch.setenv("POSEIDON_GPU", "emulated")
    assert GpuSettings().emulated
    assert not GpuSettings(emulated=False).emulated


def test_another_value_is_no_real_gpu_by_mistake():
    with pytest.raises(UsageError, match="POSEIDON_GPU is 'emulate'; expected"):
        is_emulated({"POSEIDON_GPU": "emulate"})


def test_wrong_settings():
    for precision in PRECISIONS:
        assert GpuSettings(precision=precision).precision == precision
    with pytest.raises(UsageError, match=r"fp8.*fp32, tf32, bf16, fp16"):
        GpuSettings(precision="fp8")
    with pytest.raises(UsageError, match="numbered from 0"):
        GpuSettings(device=-1)
