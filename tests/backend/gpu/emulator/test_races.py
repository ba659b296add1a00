"""With checks the emulator finds threads whose accesses no barrier puts in order."""

from __future__ import annotations

import ctypes
import shutil
from pathlib import Path

import numpy as np
import pytest

from poseidon_caffe.backend.gpu.emulator.compiler import HostModule, compile_host
from poseidon_caffe.errors import BackendError

pytestmark = pytest.mark.skipif(
    shutil.which("g++") is None, reason="the emulator needs g++"
)

SOURCE = r"""
#include "common.cuh"

// Each thread gives its value to the next one, with barriers or without.
#define ROTATE(name, between, after)              \
  KERNEL(name)(float* x) {                        \
    __shared__ float values[64];                  \
    const unsigned t = threadIdx.x;               \
    for (int k = 0; k < 3; ++k) {                 \
      values[t] = x[t + blockIdx.x * blockDim.x]; \
      between;                                    \
      x[t + blockIdx.x * blockDim.x] = values[(t + SHIFT) % blockDim.x]; \
      after;                                      \
    }                                             \
  }
#define SHIFT (blockDim.x - 1)
ROTATE(rotate, __syncthreads(), __syncthreads())
ROTATE(rotate_warp, __syncwarp(), __syncwarp())
ROTATE(rotate_late, , __syncthreads())
ROTATE(rotate_early, __syncthreads(), )

// The same, to where reads come first.
#undef SHIFT
#define SHIFT 1
ROTATE(rotate_down_early, __syncthreads(), )

KERNEL(reduce)(float* x) {
  float sum = 0;
  for (int k = 0; k < 3; ++k) sum += block_sum(x[threadIdx.x]);
  __syncthreads();
  x[threadIdx.x] = sum;
}

KERNEL(count)(float* x) { atomicAdd(x, 1.0f); }
KERNEL(look_and_count)(float* x) {
  if (threadIdx.x == 5 && x[0] < 0) x[1] = 1;
  atomicAdd(x, 1.0f);
}
KERNEL(set)(float* x) { x[0] = 1; }
KERNEL(set_own)(float* x) { x[threadIdx.x + blockIdx.x * blockDim.x] = 1; }
KERNEL(look_then_set)(float* x) {
  if (x[0] < 0) x[1] = 1;
  if (threadIdx.x == 0 && blockIdx.x == gridDim.x - 1) x[0] = 1;
}
KERNEL(look_wait_set)(float* x) {
  if (x[0] < 0) x[1] = 1;
  __syncthreads();
  if (threadIdx.x == 0 && blockIdx.x == gridDim.x - 1) x[0] = 1;
}
"""

ORDERED = [
    ("rotate", 3, 64),
    ("rotate_warp", 3, 32),
    ("rotate_warp", 3, 20),
    ("reduce", 1, 64),
    ("count", 3, 64),
    ("set", 1, 1),
    ("set_own", 3, 64),
    ("look_wait_set", 1, 64),
]
RACING = [
    ("rotate_warp", 1, 64, "shared"),
    ("rotate_late", 1, 64, "shared"),
    ("rotate_early", 1, 64, "shared"),
    ("rotate_down_early", 1, 64, "shared"),
    ("rotate_early", 1, 32, "shared"),
    ("look_and_count", 1, 32, "device"),
    ("set", 1, 2, "device"),
    ("set", 2, 1, "device"),
    ("look_then_set", 1, 32, "device"),
    ("look_then_set", 1, 64, "device"),
    ("look_wait_set", 2, 64, "device"),
]


@pytest.fixture
def kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HostModule:
    """The source above, compiled with checks."""
    monkeypatch.setenv("POSEIDON_EMULATOR_SANITIZE", "1")
    source = tmp_path / "racing.cu"
    source.write_text(SOURCE)
    return compile_host(source, "float", tmp_path)


def run(module: HostModule, kernel: str, blocks: int, threads: int) -> None:
    x = np.zeros(256, np.float32)
    argument = ctypes.c_void_p(x.ctypes.data)
    module.launch(kernel, (blocks, 1, 1), (threads, 1, 1), [argument])


def test_what_barriers_put_in_order_is_no_race(kernels: HostModule) -> None:
    for kernel, blocks, threads in ORDERED * 2:
        run(kernels, kernel, blocks, threads)


def test_races_are_told_with_the_thread_and_the_memory(kernels: HostModule) -> None:
    for kernel, blocks, threads, memory in RACING:
        told = rf"thread .* bytes of {memory} memory at .* another thread has "
        with pytest.raises(BackendError, match=told):
            run(kernels, kernel, blocks, threads)
    run(kernels, "rotate", 3, 64)
