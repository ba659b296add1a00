"""The emulator runs CUDA sources as a GPU would, and refuses what a GPU would not."""

from __future__ import annotations

import ctypes
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from poseidon_caffe.backend.gpu.emulator.compiler import (
    HostModule,
    bounds_checked,
    compile_host,
    forget_memory,
    watch_memory,
)
from poseidon_caffe.errors import BackendError

pytestmark = pytest.mark.skipif(
    shutil.which("g++") is None, reason="the emulator needs g++"
)

SOURCE = r"""
#include "common.cuh"

KERNEL(indices)(int* out) {
  const int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  int* mine = out + 6 * (block * (int)(blockDim.x * blockDim.y * blockDim.z) +
                         block_rank());
  mine[0] += threadIdx.x + 1; mine[1] += threadIdx.y + 1; mine[2] += threadIdx.z + 1;
  mine[3] += blockIdx.x + 1; mine[4] += blockIdx.y + 1; mine[5] += blockIdx.z + 1;
}

KERNEL(each)(float* out, long long n) { FOR_EACH(i, n) { out[i] += (float)i; } }

// Each thread's results of several reductions, one after the other.
KERNEL(reductions)(const double* in, double* out) {
  const int t = threadIdx.x;
  const double v = in[t];
  double* mine = out + 8 * t;
  mine[0] = block_sum(v);
  mine[1] = block_max(v);
  mine[2] = block_min(v);
  mine[3] = block_sum((float)t);
  mine[4] = block_sum(t);
  mine[5] = (double)block_max((long long)t << 40);
  mine[6] = warp_reduce<AddOf>(v);
  mine[7] = 0;
  for (int k = 0; k < 3; ++k) mine[7] += block_sum(v * k);
}

KERNEL(shuffles)(int* out) {
  const int lane = threadIdx.x & 31;
  int* mine = out + 6 * threadIdx.x;
  mine[0] = __shfl_xor_sync(FULL_MASK, lane, 5);
  mine[1] = __shfl_down_sync(FULL_MASK, lane, 3);
  mine[2] = __shfl_up_sync(FULL_MASK, lane, 3, 8);
  mine[3] = __shfl_sync(FULL_MASK, lane, 7, 16);
  mine[4] = (int)__ballot_sync(FULL_MASK, lane % 3 == 0);
  mine[5] = 2 * __any_sync(FULL_MASK, lane == 4) + __all_sync(FULL_MASK, lane < 31);
}

// Rotates a block's values through shared memory, many times.
KERNEL(rotate)(const int* in, int* out, long long times) {
  __shared__ int values[1024];
  const unsigned t = threadIdx.x;
  int value = in[t];
  for (long long k = 0; k < times; ++k) {
    values[t] = value;
    __syncthreads();
    value = values[(t + 1) % blockDim.x];
    __syncthreads();
  }
  out[t + blockIdx.x * blockDim.x] = value;
}

KERNEL(unset)(float* out) {
  __shared__ float values[4];
  if (threadIdx.x < 4) out[threadIdx.x] = values[threadIdx.x];
}

KERNEL(early_exit)(int* out) {
  if (threadIdx.x % 2 == 1) return;
  __shared__ int sum;
  if (threadIdx.x == 0) sum = 0;
  __syncthreads();
  atomicAdd(&sum, 1);
  __syncthreads();
  out[threadIdx.x] = sum;
}

KERNEL(divergent)(int* out) {
  if (threadIdx.x < 40) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  out[threadIdx.x] = 1;
}

KERNEL(never_reached)(int* out) {
  if (threadIdx.x < 16) __syncwarp(); else __syncthreads();
  out[threadIdx.x] = 1;
}

KERNEL(part_of_warp)() { __syncwarp(0xffffu); }

KERNEL(atomics)(int* i, float* f, unsigned long long* u) {
  atomicAdd(i, 2);
  atomicAdd(f, 0.5f);
  atomicAdd(u, 1ull << 33);
  atomicMax(i + 1, (int)threadIdx.x);
  atomicMin(i + 2, -(int)threadIdx.x);
  atomicCAS(i + 3, (int)threadIdx.x, (int)threadIdx.x + 1);
}

KERNEL(store)(const float* in, T* out, long long n) {
  FOR_EACH(i, n) { out[i] = T(in[i]); }
}
KERNEL(load)(const T* in, A* out, long long n) { FOR_EACH(i, n) { out[i] = A(in[i]); } }

KERNEL(wide)(const T* in, long long from) {
  struct alignas(16) Four { float x, y, z, w; };
  const Four four = *reinterpret_cast<const Four*>(in + from);
  if (four.x + four.y + four.z + four.w == 1e30f) __syncthreads();
}

KERNEL(beyond)(int* out, long long index, long long divisor) {
  __shared__ int values[4];
  values[index] = static_cast<int>(index);
  out[0] = values[index] % static_cast<int>(divisor);
}

KERNEL(random)(const unsigned* in, unsigned* out) {
  philox(in, in + 2, out);
  philox((long long)in[1] << 32 | in[0], (long long)in[5] << 32 | in[4],
         (long long)in[3] << 32 | in[2], out + 4);
}
KERNEL(uniforms)(const unsigned* in, float* out, long long n) {
  FOR_EACH(i, n) { out[i] = uniform(in[i]); }
}

#define MADE(name, op) KERNEL(name)(double* x) { x[threadIdx.x] op; }
MADE(made_by_macro, += 1)
"""

Launch = Callable[..., None]


@pytest.fixture(scope="module", autouse=True)
def _unchecked() -> Iterator[None]:
    """Kernels here work on NumPy's memory.

    Checked ones refuse it as soon as any test of the process made a device array.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("POSEIDON_EMULATOR_SANITIZE", raising=False)
        yield


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source and the compiled libraries."""
    folder = tmp_path_factory.mktemp("emulator")
    (folder / "trial.cu").write_text(SOURCE)
    return folder


@pytest.fixture(scope="module")
def module(room: Path) -> HostModule:
    return compile_host(room / "trial.cu", "float", room)


def _argument(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return ctypes.c_void_p(value.ctypes.data)
    if isinstance(value, float):
        return ctypes.c_double(value)
    return ctypes.c_longlong(value)


def _run(module: HostModule, kernel: str, grid: Any, block: Any, *args: Any) -> None:
    """Launch with NumPy arrays and numbers; grid and block may be ints."""
    sizes = [(s, 1, 1) if isinstance(s, int) else s for s in (grid, block)]
    module.launch(kernel, sizes[0], sizes[1], [_argument(a) for a in args])


@pytest.mark.parametrize(
    ("grid", "block"),
    [
        ((3, 1, 1), (37, 1, 1)),
        ((2, 3, 1), (4, 5, 1)),
        ((2, 3, 4), (3, 2, 5)),
        ((1, 1, 1), (1024, 1, 1)),
        ((1, 2, 1), (1, 16, 64)),
    ],
)
def test_every_thread_of_every_block_runs_once(
    module: HostModule, grid: tuple[int, int, int], block: tuple[int, int, int]
) -> None:
    out = np.zeros((*grid[::-1], *block[::-1], 6), np.int32)
    _run(module, "indices", grid, block, out)
    wanted = np.stack(np.indices(out.shape[:-1]), -1)[..., [5, 4, 3, 2, 1, 0]] + 1
    np.testing.assert_array_equal(out, wanted)


@pytest.mark.parametrize(("grid", "n"), [(1, 1000), (4, 255), (3, 768), (2, 0)])
def test_for_each_visits_every_element_once(
    module: HostModule, grid: int, n: int
) -> None:
    out = np.zeros(1000, np.float32)
    _run(module, "each", grid, 256, out, n)
    np.testing.assert_array_equal(
        out, np.where(np.arange(1000) < n, np.arange(1000), 0)
    )


@pytest.mark.parametrize("threads", [32, 64, 96, 256, 1024])
def test_reductions_reach_every_thread(module: HostModule, threads: int) -> None:
    rng = np.random.default_rng(threads)
    values = rng.normal(size=threads)
    out = np.zeros((threads, 8))
    _run(module, "reductions", 1, threads, values, out)
    assert (out[:, [0, 1, 2, 3, 4, 5, 7]] == out[0, [0, 1, 2, 3, 4, 5, 7]]).all()
    count = threads * (threads - 1) // 2
    wanted = [values.sum(), values.max(), values.min(), count, count]
    np.testing.assert_allclose(out[0, :5], wanted, rtol=1e-12, atol=1e-13)
    assert out[0, 5] == (threads - 1) << 40
    warps = values.reshape(-1, 32).sum(1)
    np.testing.assert_allclose(out[:, 6], warps.repeat(32), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(out[0, 7], 3 * values.sum(), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("place", [0, 31, 40, 63])
def test_block_max_gives_nan_wherever_it_is(module: HostModule, place: int) -> None:
    values = np.arange(64.0)
    values[place] = np.nan
    out = np.zeros((64, 8))
    _run(module, "reductions", 1, 64, values, out)
    assert np.isnan(out[:, 1:3]).all()


def test_shuffles_and_votes(module: HostModule) -> None:
    out = np.zeros((64, 6), np.int32)
    _run(module, "shuffles", 1, 64, out)
    lane = np.arange(64) % 32
    np.testing.assert_array_equal(out[:, 0], lane ^ 5)
    np.testing.assert_array_equal(out[:, 1], np.where(lane + 3 < 32, lane + 3, lane))
    np.testing.assert_array_equal(out[:, 2], np.where(lane % 8 >= 3, lane - 3, lane))
    np.testing.assert_array_equal(out[:, 3], lane // 16 * 16 + 7)
    votes = sum(1 << k for k in range(0, 32, 3))
    assert (out[:, 4].view(np.uint32) == votes).all()
    assert (out[:, 5] == 2).all()


@pytest.mark.parametrize("threads", [1, 45, 1024])
def test_shared_memory_between_barriers(module: HostModule, threads: int) -> None:
    values, out = np.arange(threads, dtype=np.int32), np.zeros((2, threads), np.int32)
    _run(module, "rotate", 2, threads, values, out, 7)
    np.testing.assert_array_equal(out, np.stack(2 * [np.roll(values, -7)]))


def test_shared_memory_begins_as_nan(module: HostModule) -> None:
    out = np.zeros(4, np.float32)
    _run(module, "unset", 1, 32, out)
    assert np.isnan(out).all()


def test_threads_that_exited_do_not_count_at_barriers(module: HostModule) -> None:
    out = np.zeros(100, np.int32)
    _run(module, "early_exit", 1, 100, out)
    np.testing.assert_array_equal(out, np.where(np.arange(100) % 2, 0, 50))


def test_a_divergent_barrier_is_an_error_and_later_launches_work(
    module: HostModule,
) -> None:
    out = np.zeros(64, np.int32)
    where = r"block \(0, 0, 0\): divergent barrier: thread \(0, 0, 0\) waits at .*"
    for kernel in ("divergent", "never_reached"):
        with pytest.raises(BackendError, match=f"kernel {kernel} .*{where}trial.cu"):
            _run(module, kernel, 2, 64, out)
    with pytest.raises(BackendError, match="mask must be 0xffffffff"):
        _run(module, "part_of_warp", 1, 32)
    assert not out.any()
    test_shared_memory_between_barriers(module, 1024)


def test_atomics(module: HostModule) -> None:
    ints = np.zeros(4, np.int32)
    floats, words = np.zeros(1, np.float32), np.zeros(1, np.uint64)
    _run(module, "atomics", 3, 100, ints, floats, words)
    assert ints.tolist() == [600, 99, -99, 100]
    assert floats[0] == 150
    assert words[0] == 300 << 33


def _hard_floats() -> np.ndarray:
    """Every float whose upper bits are any and lower ones critical, and more."""
    upper = np.arange(1 << 16, dtype=np.uint32) << 16
    lower = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)
    rng = np.random.default_rng(3)
    others = rng.integers(0, 1 << 32, 100_000, np.uint32)
    # Half way between two numbers of half precision, and next to it.
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    middle = (halves[:-1] + halves[1:]) / 2
    down, up = np.float32(0), np.float32(np.inf)
    near = [middle, np.nextafter(middle, down), np.nextafter(middle, up), -middle]
    words = np.concatenate([(upper[:, None] | lower).ravel(), others])
    edges = np.array([65519.99, 65520, 1e30], np.float32)
    return np.concatenate([words.view(np.float32), *near, edges])


def _same(received: np.ndarray, wanted: np.ndarray) -> None:
    """Bit for bit, any NaN being as good as another."""
    nan = np.isnan(wanted)
    np.testing.assert_array_equal(np.isnan(received), nan)
    kind = f"u{wanted.itemsize}"
    np.testing.assert_array_equal(received.view(kind)[~nan], wanted.view(kind)[~nan])


def test_half16_rounds_as_numpy(room: Path) -> None:
    module = compile_host(room / "trial.cu", "half16", room)
    patterns = np.arange(1 << 16, dtype=np.uint16)
    loaded = np.zeros(1 << 16, np.float32)
    _run(module, "load", 8, 1024, patterns, loaded, loaded.size)
    _same(loaded, patterns.view(np.float16).astype(np.float32))
    floats = _hard_floats()
    stored = np.zeros(floats.size, np.float16)
    _run(module, "store", 8, 1024, floats, stored, floats.size)
    with np.errstate(over="ignore", invalid="ignore"):
        _same(stored, floats.astype(np.float16))


def test_bfloat16_rounds_to_nearest_even(room: Path) -> None:
    module = compile_host(room / "trial.cu", "bfloat16", room)
    patterns = np.arange(1 << 16, dtype=np.uint16)
    loaded = np.zeros(1 << 16, np.float32)
    _run(module, "load", 8, 1024, patterns, loaded, loaded.size)
    _same(loaded, (patterns.astype(np.uint32) << 16).view(np.float32))
    floats = _hard_floats()
    stored = np.zeros(floats.size, np.uint16)
    _run(module, "store", 8, 1024, floats, stored, floats.size)
    received = (stored.astype(np.uint32) << 16).view(np.float32)
    # The nearer neighbour, and of two as near the one that is even: in the exact
    # arithmetic of words, the values of one sign being ordered as their words.
    words = floats.view(np.uint32).astype(np.uint64)
    rest, below = words & 0xFFFF, words >> 16
    up = (rest > 0x8000) | ((rest == 0x8000) & (below % 2 == 1))
    wanted = ((below + up) << 16).astype(np.uint32).view(np.float32).copy()
    wanted[np.isnan(floats)] = np.nan
    _same(received, wanted)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ([0] * 6, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 6, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0xA4093822, 0x299F31D0, 0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_gives_the_known_answers_of_random123(
    module: HostModule, words: list[int], wanted: list[int]
) -> None:
    out = np.zeros(8, np.uint32)
    _run(module, "random", 1, 1, np.array(words, np.uint32), out)
    assert out.tolist() == wanted * 2


def test_uniform_is_never_one(module: HostModule) -> None:
    words = np.array([0, 255, 256, 0xFFFFFFFF, 0x80000000], np.uint32)
    out = np.zeros(5, np.float32)
    _run(module, "uniforms", 1, 32, words, out, 5)
    assert out.tolist() == [0, 0, 2**-24, 1 - 2**-24, 0.5]


def test_kernels_made_by_macros_are_found(module: HostModule) -> None:
    out = np.zeros(32)
    _run(module, "made_by_macro", 1, 32, out)
    assert out.all()


@pytest.mark.parametrize(
    ("args", "received"),
    [
        ([ctypes.c_void_p(0)], r"received 1 \(pointer\)"),
        ([ctypes.c_void_p(0), ctypes.c_double(1)], r"received 2 \(pointer, double\)"),
        ([ctypes.c_longlong(0)] * 2, r"received 2 \(integer, integer\)"),
        ([ctypes.c_void_p(0), ctypes.c_int(1)], r"received 2 \(pointer, c_int\)"),
        ([ctypes.c_void_p(0), 5], r"received 2 \(pointer, int\)"),
    ],
)
def test_arguments_must_fit_the_parameters(
    module: HostModule, args: list[Any], received: str
) -> None:
    wanted = r"kernel each takes 2 arguments \(pointer, integer\), "
    with pytest.raises(BackendError, match=wanted + received):
        module.launch("each", (1, 1, 1), (32, 1, 1), args)


def test_an_unknown_kernel_is_refused(module: HostModule) -> None:
    with pytest.raises(BackendError, match="no kernel 'eech'; it has: indices, each"):
        module.launch("eech", (1, 1, 1), (32, 1, 1), [])


def test_a_parameter_of_another_type_does_not_compile(tmp_path: Path) -> None:
    source = tmp_path / "wrong.cu"
    source.write_text('#include "common.cuh"\nKERNEL(wrong)(float x, int n) {}\n')
    with pytest.raises(BackendError, match="must be pointers, long long or double"):
        compile_host(source, "float", tmp_path)


def test_errors_of_the_compiler_are_told(tmp_path: Path) -> None:
    source = tmp_path / "wrong.cu"
    source.write_text(
        '#include "common.cuh"\nKERNEL(wrong)(T* x) { x[0] = nowhere; }\n'
    )
    with pytest.raises(BackendError, match=r"wrong.cu:2:.*nowhere"):
        compile_host(source, "float", tmp_path)
    assert [path.suffix for path in tmp_path.glob("wrong*")] == [".cu"]
    source.write_text('#include "common.cuh"\nstruct half16 { int bits; };\n')
    with pytest.raises(BackendError, match="half16"):
        compile_host(source, "float", tmp_path)
    source.write_text("#include <vector.cuh>\n")
    with pytest.raises(BackendError, match=r"vector\.cuh"):
        compile_host(source, "float", tmp_path)


def test_what_was_compiled_is_used_again_until_the_source_changes(
    tmp_path: Path,
) -> None:
    source = tmp_path / "small.cu"
    text = '#include "common.cuh"\nKERNEL(put)(T* x) {{ x[0] = T({}); }}\n'
    source.write_text(text.format(1))
    first = compile_host(source, "float", tmp_path).library
    stamp = first.stat().st_mtime_ns
    assert compile_host(source, "float", tmp_path).library == first
    assert first.stat().st_mtime_ns == stamp
    assert compile_host(source, "double", tmp_path).library != first
    source.write_text(text.format(2))
    changed = compile_host(source, "float", tmp_path)
    assert changed.library != first
    out = np.zeros(1, np.float32)
    _run(changed, "put", 1, 1, out)
    assert out[0] == 2


@pytest.fixture
def checked(room: Path, monkeypatch: pytest.MonkeyPatch) -> HostModule:
    """The source compiled with bounds checks."""
    monkeypatch.setenv("POSEIDON_EMULATOR_SANITIZE", "1")
    assert bounds_checked()
    return compile_host(room / "trial.cu", "float", room)


def test_accesses_outside_of_watched_memory_are_found(checked: HostModule) -> None:
    memory = np.zeros(64 + 4, np.float32)
    array = memory[-memory.ctypes.data // 4 % 4 :][:64]
    watch_memory(array.ctypes.data, array.nbytes)
    try:
        _run(checked, "each", 1, 32, array, 64)
        assert array[63] == 63
        outside = r"block \(1, 0, 0\): thread \(0, 0, 0\) (reads|writes) 4 bytes at .*,"
        with pytest.raises(BackendError, match=outside + " outside of every"):
            _run(checked, "each", 3, 64, array, 65)
        _run(checked, "wide", 1, 1, array, 60)
        with pytest.raises(BackendError, match="outside of every"):
            _run(checked, "wide", 1, 1, array, 64)
        _run(checked, "each", 1, 32, array, 64)
    finally:
        forget_memory(array.ctypes.data)


def test_bounds_checks_know_the_kernels_own_memory(checked: HostModule) -> None:
    out = np.zeros((96, 8))
    words, random = np.zeros(6, np.uint32), np.zeros(8, np.uint32)
    arrays = [out, words, random, values := np.ones(96)]
    for array in arrays:
        watch_memory(array.ctypes.data, array.nbytes)
    try:
        _run(checked, "reductions", 1, 96, values, out)
        _run(checked, "random", 1, 1, words, random)
    finally:
        for array in arrays:
            forget_memory(array.ctypes.data)
    assert (out[:, 0] == values.size).all()
    assert random[0] == 0x6627E8D5


def test_addresses_must_suit_their_type(module: HostModule) -> None:
    array = np.zeros(16, np.float32)
    start = -array.ctypes.data // 4 % 4
    _run(module, "wide", 1, 1, array, start)
    with pytest.raises(BackendError, match=r"not aligned at .*trial\.cu:\d+"):
        _run(module, "wide", 1, 1, array, start + 1)
    null = [ctypes.c_void_p(), ctypes.c_longlong(1)]
    with pytest.raises(BackendError, match=r"null pointer at .*trial\.cu:\d+"):
        module.launch("each", (1, 1, 1), (32, 1, 1), null)


def test_arrays_of_the_kernel_have_bounds(module: HostModule) -> None:
    out = np.zeros(1, np.int32)
    _run(module, "beyond", 1, 1, out, 3, 7)
    assert out[0] == 3
    with pytest.raises(BackendError, match=r"indexes beyond an array at .*trial\.cu"):
        _run(module, "beyond", 1, 1, out, 4, 7)
    with pytest.raises(BackendError, match=r"divides by zero at .*trial\.cu"):
        _run(module, "beyond", 1, 1, out, 0, 0)
