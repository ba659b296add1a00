from __future__ import annotations

import json

import numpy as np
import pytest

from poseidon_caffe.backend.gpu.base import flat
from poseidon_caffe.backend.half import BFLOAT16
from poseidon_caffe.layers.generators import generator_state, restore_generator
from tests.devices import gpu_ops

WORD = np.uint64(0xFFFFFFFF)


def philox(key: int, draw: int, blocks: int) -> np.ndarray:
    """Words (blocks, 4) of Philox4x32-10 (Salmon et al. 2011), in NumPy."""
    index = np.arange(blocks, dtype=np.uint64)
    c = [index & WORD, index >> np.uint64(32), index * 0, index * 0]
    c[2] += np.uint64(draw & 0xFFFFFFFF)
    c[3] += np.uint64(draw >> 32)
    k0, k1 = key & 0xFFFFFFFF, key >> 32
    for _ in range(10):
        left, right = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        high, low = np.uint64(32), WORD
        c = [
            (right >> high) ^ c[1] ^ np.uint64(k0),
            right & low,
            (left >> high) ^ c[3] ^ np.uint64(k1),
            left & low,
        ]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack(c, axis=1)


def uniforms(key: int, draw: int, count: int) -> np.ndarray:
    words = philox(key, draw, -(-count // 4)).reshape(-1)[:count]
    return (words >> np.uint64(8)).astype(np.float32) * np.float32(2.0**-24)


def drawn(rng, count: int, kernel: str = "uniform") -> np.ndarray:
    ops = gpu_ops()
    dtype = np.uint8 if kernel == "bernoulli" else np.float32
    out = ops.memory.zeros(count, dtype)
    if kernel == "bernoulli":
        ops.bernoulli(rng, 0.25, out)
    else:
        getattr(ops, kernel)(rng, 0.0, 1.0, out)
    values = np.empty(count, dtype)
    ops.memory.download(out, values)
    return values


def memory_of(array) -> np.ndarray:
    """What a dense device array holds, in the order of its memory."""
    stored = flat(array)
    values = np.empty(stored.shape, stored.dtype)
    gpu_ops().memory.download(stored, values)
    return values


def test_the_model_gives_the_known_answers():
    """kat_vectors of Random123 for counters and keys of zeros and of ones."""
    zeros = [f"{word:08x}" for word in philox(0, 0, 1)[0]]
    assert zeros == ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]


@pytest.mark.parametrize("count", [1, 4, 7, 1026])
def test_numbers_are_those_of_philox(count):
    rng = gpu_ops().generator((3, 4))
    key = rng.state()["key"]
    for draw in range(3):
        np.testing.assert_array_equal(drawn(rng, count), uniforms(key, draw, count))
    ones = drawn(rng, count, "bernoulli")
    np.testing.assert_array_equal(ones, uniforms(key, 3, count) < 0.25)
    u = np.zeros(count + 3, np.float32)
    u[:] = uniforms(key, 4, count + 3)
    pairs = u[: len(u) // 2 * 2].reshape(-1, 2).astype(np.float64)
    radius = np.sqrt(-2 * np.log(1 - pairs[:, 0]))
    angle = 2 * np.pi * pairs[:, 1]
    want = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).reshape(-1)
    got = drawn(rng, count, "normal")
    np.testing.assert_allclose(got, want[:count], atol=2e-6)


def test_bytes_at_odd_addresses():
    ops = gpu_ops()
    whole = ops.memory.zeros(40, np.uint8)
    ops.bernoulli(ops.generator((5,)), 0.5, whole[1:24])
    values = np.empty(40, np.uint8)
    ops.memory.download(whole, values)
    rng = ops.generator((5,))
    want = uniforms(rng.state()["key"], 0, 23) < 0.5
    np.testing.assert_array_equal(values[1:24], want)
    assert not values[0]
    assert not values[24:].any()


@pytest.mark.parametrize("dtype", [np.float16, BFLOAT16])
@pytest.mark.parametrize("shape", [(5, 67), (3, 16, 5, 4), (2, 3)])
@pytest.mark.parametrize("last", [False, True])
def test_dropout_of_16_bits_is_the_two_steps(dtype, shape, last):
    """Also from odd addresses, which no packs can be loaded from."""
    ops = gpu_ops()
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    bits = np.asarray(x.view(np.uint32) >> 16, np.uint16)  # of the nearest bfloat16
    count = x.size
    order = (0, *range(2, len(shape)), 1)

    def made(kind, values=None):
        whole = ops.memory.zeros(count + 1, kind)
        view = whole[1:] if count % 2 else whole[:count]
        if values is not None:
            ops.memory.upload(values.reshape(-1), view)
        if not last:
            return view.reshape(shape)
        stored = view.reshape(tuple(shape[i] for i in order))
        return stored.transpose(tuple(int(i) for i in np.argsort(order)))

    given = made(dtype, bits if dtype is BFLOAT16 else x.astype(dtype))
    masks, tops = [made(np.uint8) for _ in "ab"], [made(dtype) for _ in "ab"]
    ops.bernoulli(ops.generator((5,)), 0.7, masks[0])
    ops.dropout(given, masks[0], 1.25, tops[0])
    ops.draw_dropout(ops.generator((5,)), 0.7, 1.25, given, masks[1], tops[1])
    for want, got in (masks, tops):
        np.testing.assert_array_equal(memory_of(got), memory_of(want))
    assert memory_of(masks[0]).any()


def test_dropout_of_more_than_its_blocks_reach():
    """Threads then do several groups; the last of 2048 blocks counts the draw."""
    ops = gpu_ops()
    count = 2048 * 256 * 4 + 13
    rng = ops.generator((5,))
    x, mask = ops.memory.zeros(count, np.float32), ops.memory.zeros(count, np.uint8)
    ops.draw_dropout(rng, 0.25, 2.0, x, mask, x)
    want = uniforms(rng.state()["key"], 0, count) < 0.25
    np.testing.assert_array_equal(memory_of(mask), want)
    assert rng.state()["draws"] == 1


def test_a_recorded_dropout_draws_anew_every_time():
    """In one kernel, which counts its draws beside those of others."""
    ops = gpu_ops()
    rng = ops.generator((6,))
    x, mask = ops.memory.zeros(30, np.float32), ops.memory.zeros(30, np.uint8)
    ops.draw_dropout(rng, 0.5, 2.0, x, mask, x)
    graph = ops.device.capture(lambda: ops.draw_dropout(rng, 0.5, 2.0, x, mask, x))
    key = rng.state()["key"]
    for draw in (1, 2, 4):
        graph.launch()
        want = uniforms(key, draw, 30) < 0.5
        np.testing.assert_array_equal(memory_of(mask), want)
        if draw == 2:
            np.testing.assert_array_equal(drawn(rng, 30), uniforms(key, 3, 30))
    state = rng.state()
    assert state["draws"] == 5
    restore_generator(rng, json.loads(json.dumps(state)))
    ops.draw_dropout(rng, 0.5, 2.0, x, mask, x)
    np.testing.assert_array_equal(memory_of(mask), uniforms(key, 5, 30) < 0.5)


def test_state_survives_json_and_goes_on():
    ops = gpu_ops()
    rng, other = ops.generator((1, 2)), ops.generator((8,))
    drawn(rng, 9)
    state = json.loads(json.dumps(generator_state(rng)))
    assert state["draws"] == 1
    want = drawn(rng, 50), drawn(rng, 50)
    restore_generator(other, state)
    np.testing.assert_array_equal((drawn(other, 50), drawn(other, 50)), want)


def test_a_recorded_graph_draws_anew_every_time():
    ops = gpu_ops()
    rng = ops.generator((6,))
    out = ops.memory.zeros(30, np.float32)
    ops.uniform(rng, 0.0, 1.0, out)  # compiles what the graph runs
    graph = ops.device.capture(lambda: ops.uniform(rng, 0.0, 1.0, out))
    key = rng.state()["key"]
    for draw in (1, 2, 3):
        graph.launch()
        values = np.empty(30, np.float32)
        ops.memory.download(out, values)
        np.testing.assert_array_equal(values, uniforms(key, draw, 30))
    assert rng.state()["draws"] == 4


def test_a_run_may_go_on_on_the_other_kind_of_backend():
    """With other numbers, but the same ones in every such resume."""
    ops = gpu_ops()
    rng = ops.generator((6,))
    drawn(rng, 5)
    resumed = [ops.host.generator((i,)) for i in range(2)]
    for host in resumed:
        restore_generator(host, generator_state(rng))
    assert resumed[0].random() == resumed[1].random()
    back = [ops.generator((i,)) for i in range(2)]
    for device in back:
        restore_generator(device, generator_state(resumed[0]))
    first, second = (drawn(device, 20) for device in back)
    np.testing.assert_array_equal(first, second)
