"""Which GPU a process takes, and Caffe's lines about it; on emulated GPUs."""

from __future__ import annotations

import io

import pytest

from poseidon_caffe.backend.gpu import inventory
from poseidon_caffe.backend.gpu.settings import GpuSettings
from poseidon_caffe.cli.flags import Arguments, parse
from poseidon_caffe.cli.gpu_flags import GPU_FLAGS
from poseidon_caffe.cli.gpus import listed_gpus, single_gpu, training_gpu
from poseidon_caffe.cli.launched import Launched
from poseidon_caffe.errors import GpuError, UsageError
from poseidon_caffe.report.glog import Glog
from poseidon_caffe.schema.messages import SolverParameter

NAME = "Poseidon's emulator"


@pytest.fixture
def two(monkeypatch):
    """A machine with two GPUs."""
    monkeypatch.setenv("POSEIDON_GPU", "emulated")
    monkeypatch.setenv("POSEIDON_EMULATED_GPUS", "2")


@pytest.fixture
def none(monkeypatch):
    """A machine without a driver."""
    monkeypatch.delenv("POSEIDON_GPU", raising=False)
    monkeypatch.setattr(inventory, "driver_version", lambda: 0)


@pytest.fixture
def log():
    return Glog(io.StringIO())


def given(*argv: str) -> Arguments:
    return parse(argv, GPU_FLAGS)


def said(log: Glog) -> list[str]:
    """Level and text of each line."""
    lines = log.stream.getvalue().splitlines()
    return [f"{line[0]} {line.split('] ', 1)[1]}" for line in lines]


def choose(log, *argv, param=None, place=None) -> GpuSettings | None:
    param = SolverParameter() if param is None else param
    return training_gpu(given(*argv), param, "s", place or Launched(), log)


def test_the_list(two):
    assert listed_gpus(given()) == []
    assert [gpu.device for gpu in listed_gpus(given("--gpu=all"))] == [0, 1]
    assert [gpu.device for gpu in listed_gpus(given("--gpu=1,0"))] == [1, 0]
    with pytest.raises(GpuError, match="no GPU 2: there are 0 "):
        listed_gpus(given("--gpu=0,2"))


def test_training_on_one(two, log):
    param = SolverParameter()
    found = choose(log, "--gpu=1", "--precision=bf16", "--deterministic", param=param)
    assert found == GpuSettings(device=1, precision="bf16", deterministic=True)
    assert param.device_id == 1
    assert not param.HasField("solver_mode")
    assert said(log) == ["I Using GPUs 1", f"I GPU 1: {NAME}"]


def test_the_cpu_is_what_no_flag_means(two, log):
    assert choose(log) is None
    assert said(log) == []
    cpu = SolverParameter(solver_mode=SolverParameter.CPU)
    assert choose(log, "--precision=tf32", param=cpu) is None
    assert said(log) == ["W --precision: no effect on the CPU"]
    # Caffe's tools let --gpu win.
    assert choose(log, "--gpu=0", param=cpu).device == 0


def test_the_solver_may_ask(two, log):
    param = SolverParameter(solver_mode=SolverParameter.GPU)
    assert choose(log, param=param).device == 0
    param = SolverParameter(solver_mode=SolverParameter.GPU, device_id=1)
    assert choose(log, param=param).device == 1
    assert choose(log, "--gpu=0", param=param).device == 0
    param.device_id = 2
    with pytest.raises(GpuError, match="no GPU 2"):
        choose(log, param=param)


def test_without_a_gpu_the_solver_gets_the_cpu_and_the_flag_an_error(none, log):
    param = SolverParameter(solver_mode=SolverParameter.GPU, device_id=1)
    assert choose(log, param=param) is None
    assert param.solver_mode == param.CPU
    [line] = said(log)
    assert line.startswith("W s: solver_mode: GPU: no NVIDIA driver here")
    assert line.endswith("; training on the CPU")
    with pytest.raises(GpuError, match="no NVIDIA driver here"):
        choose(log, "--gpu=all")


@pytest.mark.parametrize(
    ("argv", "local_rank", "device"),
    [
        (("--gpu=all",), 0, 0),
        (("--gpu=all",), 1, 1),
        (("--gpu=all",), 2, 0),
        (("--gpu=1,0",), 0, 1),
        (("--gpu=1",), 3, 1),
        ((), 1, 1),  # by the solver's mode
    ],
)
def test_a_rank_takes_that_of_its_place(two, log, argv, local_rank, device):
    place = Launched(4 + local_rank, 8, 4, local_rank)
    param = SolverParameter(solver_mode=SolverParameter.GPU)
    assert choose(log, *argv, param=param, place=place).device == device


def test_sharing_is_told(two, log):
    choose(log, "--gpu=all", place=Launched(0, 4, 2, 0))
    assert said(log) == ["I Using GPUs 0, 1", f"I GPU 0: {NAME}", f"I GPU 1: {NAME}"]
    choose(log, "--gpu=all", place=Launched(0, 4, 4, 0))
    assert said(log)[-1].startswith("W 4 ranks on this machine share 2 GPUs")
    choose(log, "--gpu=0,0", place=Launched(0, 2, 2, 0))
    assert said(log)[-1].startswith("W 2 ranks on this machine share 1 GPU: they")


def test_commands_that_use_one(two, log):
    assert single_gpu(given(), log, tag="t:1") is None
    assert single_gpu(given("--gpu=all"), log, tag="t:1").device == 0
    assert said(log) == [
        "I Not using GPU #1 for single-GPU function",
        "I Use GPU with device ID 0",
        f"I GPU device name: {NAME}",
    ]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_16_bits_need_a_gpu(none, log, precision):
    message = f"--precision {precision} needs a GPU"
    with pytest.raises(UsageError, match=message):
        single_gpu(given(f"--precision={precision}"), log, tag="t")
    with pytest.raises(UsageError, match=message):
        choose(log, f"--precision={precision}")
