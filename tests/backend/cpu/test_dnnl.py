from __future__ import annotations

import gc
import itertools
import re
import threading

import numpy as np
import pytest

from poseidon_caffe.backend.cpu.dnnl import (
    ANY,
    Alg,
    Arg,
    Memory,
    Primitive,
    Prop,
    Query,
    load,
)
from poseidon_caffe.backend.geometry import ConvGeometry
from poseidon_caffe.backend.select import get_ops
from poseidon_caffe.errors import BackendError
from tests.backend.cpu.conftest import assert_near, stored, unset

SHAPES = [(2, 3, 4, 5), (1, 3, 4, 5), (2, 1, 4, 5), (2, 3, 1, 1), (1, 1, 1, 1), (4, 6)]
SHAPES += [(1, 6), (6, 1), (7,), (2, 3, 2, 4, 2), (1, 2, 1, 3, 1)]


@pytest.mark.parametrize("shape", SHAPES)
def test_any_order_of_axes_is_described(dnnl, rng, shape):
    """A reorder into plain order must find every element where it lies."""
    plain = dnnl.desc_of(np.zeros(shape, np.float32))
    assert plain.size_bytes == 4 * np.prod(shape)
    for order in itertools.permutations(range(len(shape))):
        lengths = [shape[axis] for axis in order]
        memory = rng.standard_normal(lengths).astype(np.float32)
        array = memory.transpose(np.argsort(order))
        assert array.shape == shape
        out = np.full(shape, np.nan, np.float32)
        dnnl.reorder(dnnl.desc_of(array), plain)(array, out)
        np.testing.assert_array_equal(out, array)


def test_slices_are_described(dnnl, rng):
    wide = rng.standard_normal((4, 9, 6, 8)).astype(np.float32)
    for part in (wide[:, 2:5], wide[1:3, :, 2:, ::2], wide[:, 4:5], wide[:, :, :1, :1]):
        out = np.full(part.shape, np.nan, np.float32)
        dnnl.reorder(dnnl.desc_of(part), dnnl.desc_of(out))(part, out)
        np.testing.assert_array_equal(out, part)


@pytest.mark.parametrize("dtype", ["float32", "int32", "uint8", "int8"])
def test_types_have_their_size(dnnl, dtype):
    array = np.zeros((3, 5), dtype)
    assert dnnl.desc_of(array).size_bytes == array.nbytes


def test_reorder_may_add(dnnl, rng):
    src, dst = rng.standard_normal((2, 2, 3, 4, 5)).astype(np.float32)
    want = src + dst
    last = stored(src)
    dnnl.reorder(dnnl.desc_of(last), dnnl.desc_of(dst), accumulate=True)(last, dst)
    assert_near(dst, want)


def test_what_cannot_be_is_refused(dnnl):
    x, y = dnnl.desc((1, 3, 8, 8), ANY), dnnl.desc((1, 4, 7, 7), ANY)
    w = dnnl.desc((4, 3, 3, 3), ANY)
    window = ((1, 1), (0, 0), (0, 0), (0, 0))
    with pytest.raises(BackendError, match=r"oneDNN .*: convolution_forward failed"):
        dnnl.describe(
            "convolution_forward", Prop.TRAINING, Alg.CONV_DIRECT, x, w, None, y,
            *window,
        )  # fmt: skip
    with pytest.raises(BackendError, match="descriptor of shape"):
        dnnl.desc((-1, 2), (2, 1))


def test_statuses_become_errors(dnnl):
    dnnl.check(0, "nothing")
    with pytest.raises(BackendError, match=r"thing not implemented \(status 3\)"):
        dnnl.check(3, "thing")
    with pytest.raises(BackendError, match=re.escape(dnnl.path)):
        dnnl.check(2, "thing")


def relu_of(dnnl, count):
    flat = dnnl.desc((count,), (1,))
    desc = dnnl.describe(
        "eltwise_forward", Prop.TRAINING, Alg.RELU, flat, flat, 0.0, 0.0
    )
    return desc, Primitive(desc, {Arg.SRC: flat, Arg.DST: flat})


def test_a_primitive_may_run_on_other_arrays_each_time(dnnl):
    _, run = relu_of(dnnl, 3)
    arrays = [np.array([-1, k, -3], np.float32) for k in range(5)]
    outs = [np.full(3, np.nan, np.float32) for _ in arrays]
    for src, out in [*zip(arrays, outs, strict=True), (arrays[0], outs[4])]:
        run(src, out)
    assert [out.tolist() for out in outs[:4]] == [[0, k, 0] for k in range(4)]
    assert outs[4].tolist() == [0, 0, 0]
    # In place, and what the array holds now counts, not what it held.
    arrays[1][:] = [5, -5, 5]
    run(arrays[1], arrays[1])
    assert arrays[1].tolist() == [5, 0, 5]


def test_operands_are_kept_alive(dnnl):
    memory = Memory(dnnl.desc((4,), (1,)), dnnl)
    memory.point_to(np.ones(4, np.float32))
    gc.collect()
    assert memory.array.tolist() == [1, 1, 1, 1]


def test_implementations_have_names(dnnl):
    desc, _ = relu_of(dnnl, 64)
    assert desc.implementation
    assert desc.desc(Query.DST).size_bytes == 256


def test_scratch_memory_is_shared_aligned_and_grows(dnnl):
    first = dnnl.scratchpad(1000)
    assert first.size >= 1000
    assert first.ctypes.data % 64 == 0
    assert dnnl.scratchpad(10) is dnnl.scratchpad(first.size)
    larger = dnnl.scratchpad(first.size + 1)
    assert larger.size == first.size + 1
    assert larger.ctypes.data % 64 == 0
    assert dnnl.scratchpad(5) is larger


def test_each_thread_has_its_own_scratch_memory(dnnl):
    mine, theirs = dnnl.scratchpad(100), []
    thread = threading.Thread(target=lambda: theirs.append(dnnl.scratchpad(100)))
    thread.start()
    thread.join()
    assert not np.shares_memory(mine, theirs[0])


def test_backends_compute_in_two_threads_at_once(ops):
    """As two workers in one process do; each has kernels of its own."""
    g = ConvGeometry((1, 32, 24, 24), 32, (3, 3), (1, 1), (1, 1), (1, 1))

    def results(seed, times):
        rng = np.random.default_rng(seed)
        kernel = get_ops("cpu", 2).convolution(g)
        x, w = stored(rng.standard_normal(g.x_shape)), rng.standard_normal(g.w_shape)
        w = w.astype(np.float32)
        y, dx = unset(g.y_shape), unset(g.x_shape)
        dw, db = np.empty_like(w), np.empty(32, np.float32)
        for _ in range(times):
            kernel.forward(x, w, db * 0, y)
            kernel.backward_data(y, w, dx)
            kernel.backward_weights(x, y, dw, db, accumulate=False)
            yield np.concatenate([a.reshape(-1) for a in (y, dx, dw, db)])

    wanted = {seed: next(results(seed, 1)) for seed in (1, 2)}
    wrong = []

    def work(seed):
        for got in results(seed, 60):
            if not np.allclose(got, wanted[seed], rtol=1e-3, atol=1e-3):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_number_of_threads_changes_rounding_at_most(ops, rng, threads):
    g = ConvGeometry((4, 32, 12, 12), 48, (3, 3), (1, 1), (1, 1), (1, 1))
    x, w = stored(rng.standard_normal(g.x_shape)), rng.standard_normal(g.w_shape)
    w, results = w.astype(np.float32), []
    for count in (2, threads):
        kernel = get_ops("cpu", count).convolution(g)
        y, dx = unset(g.y_shape), unset(g.x_shape)
        dw, db = np.empty_like(w), np.zeros(48, np.float32)
        kernel.forward(x, w, db, y)
        kernel.backward_data(y, w, dx)
        kernel.backward_weights(x, y, dw, db, accumulate=False)
        results.append((y, dx, dw, db))
    for one, other in zip(*results, strict=True):
        assert_near(one, other)


def test_there_is_one_library(dnnl):
    assert load() is dnnl
    assert dnnl.version >= (3, 0)
