"""Rows get the bits of whole parameters, on any thread."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.backend.geometry import ConvGeometry
from poseidon_caffe.backend.select import get_ops
from poseidon_caffe.net.net import NetOptions
from poseidon_caffe.types import RowPiece
from tests.solver.support import INPUT_NET, feed, make_solver

RULES = {
    "SGD": "momentum: 0.9 weight_decay: 0.01",
    "Nesterov": "momentum: 0.9 weight_decay: 0.01",
    "AdaGrad": "weight_decay: 0.02",
    "RMSProp": 'rms_decay: 0.9 weight_decay: 0.01 regularization_type: "L1"',
    "AdaDelta": "momentum: 0.95 delta: 1e-6",
    "Adam": "momentum: 0.9 weight_decay: 0.01",
}
BACKENDS = {"cpu": np.float32, "numpy": np.float32, "reference": np.float64}
#: Rows of every length beside those of the vector units.
CUTS = [1, 2, 3, 7, 8, 15, 16, 17, 31, 64, 100, 257, 1000, 4096, 5000]
WIDE = INPUT_NET.replace("num_output: 10", "num_output: 300").replace(
    "dim: 6", "dim: 70"
)


def pieces_of(updater, net, slot, gradient, cuts):
    """``slot`` in pieces of the given sizes over and over."""
    flat = net.learnable[slot].data.reshape(-1)
    at, found = 0, []
    while at < flat.size:
        size = cuts[len(found) % len(cuts)]
        part = slice(at, at + size)
        history = tuple(array[part] for array in updater.history_of(slot))
        found.append(RowPiece(slot, flat[part], gradient[part].copy(), history))
        at += size
    return found


def random_gradients(net, seed):
    random = np.random.default_rng(seed)
    return [
        (random.standard_normal(blob.count) * 10.0 ** random.integers(-4, 3)).astype(
            blob.dtype
        )
        for blob in net.learnable
    ]


def restore_threads(ops):
    """Undo what a backend for one thread, made here, did to this one."""
    if ops.name == "cpu":
        ops.dnnl.set_threads(ops.threads)


def state(solver):
    arrays = [*(b.data for b in solver.net.learnable), *solver.history.shaped()]
    return [array.tobytes() for array in arrays]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", RULES)
def test_any_cut_gives_the_bits_of_the_solver_itself(kind, backend):
    text = (
        f'type: "{kind}" {RULES[kind]} lr_policy: "multistep" gamma: 0.5 stepvalue: 2 '
        "iter_size: 2"
    )
    options = {"backend": backend, "dtype": BACKENDS[backend]}
    # One by itself and with its parameters in groups; one cut in different ways.
    wholes = [
        make_solver(text, WIDE, net=NetOptions(share_memory=share), **options)
        for share in (False, True)
    ]
    rows, mixed = (make_solver(text, WIDE, **options) for _ in range(2))
    # Those of a cluster run on one thread, the solver's own on all.
    name = "cpu" if backend == "cpu" else "reference"
    by_rows, by_mixed = (s.row_updater(get_ops(name, 1)) for s in (rows, mixed))
    restore_threads(rows.ops)
    order = np.random.default_rng(2)
    for iteration in range(4):
        gradients = random_gradients(rows.net, iteration)
        for whole in wholes:
            for blob, gradient in zip(whole.net.learnable, gradients, strict=True):
                np.copyto(blob.diff, gradient.reshape(blob.shape))
            whole.apply_update()
            whole.iteration += 1
        for slot, gradient in enumerate(gradients):
            size = CUTS[3:][(iteration * 4 + slot) % len(CUTS[3:])]
            pieces = pieces_of(by_rows, rows.net, slot, gradient, [size])
            by_rows.apply(iteration, pieces, 0.5)
            pieces = pieces_of(by_mixed, mixed.net, slot, gradient, CUTS)
            for i in order.permutation(len(pieces)):
                by_mixed.apply(iteration, [pieces[i]], 0.5)
    assert state(rows) == state(wholes[0]) == state(mixed) == state(wholes[1])


def test_multipliers_and_scale():
    solver = make_solver("weight_decay: 0.5")
    before = [b.data.reshape(-1).copy() for b in solver.net.learnable]
    updater = solver.row_updater()
    g = random_gradients(solver.net, 0)
    for slot in range(2):
        pieces = pieces_of(updater, solver.net, slot, g[slot], [9])
        updater.apply(0, pieces, 0.25)
        lr, decay = [(1, 1), (2, 0)][slot]
        want = before[slot] - 0.1 * lr * (0.25 * g[slot] + 0.5 * decay * before[slot])
        got = solver.net.learnable[slot].data.reshape(-1)
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", RULES)
def test_history_is_the_solvers(kind):
    solver = make_solver(f'type: "{kind}"')
    updater = solver.row_updater()
    assert updater.history_count == solver.rule.history_count
    assert len(updater.history_of(0)) == updater.history_count
    assert all(a.ndim == 1 and a.size == 60 for a in updater.history_of(0))
    updater.history_of(0)[0][...] = 7
    assert (solver.history.shaped()[0] == 7).all()


def test_rates_are_those_of_each_rows_own_iteration():
    """With staleness one row may be iterations ahead of another."""
    text = 'lr_policy: "multistep" gamma: 0.1 stepvalue: 1 stepvalue: 2 base_lr: 1'
    solver = make_solver(text)
    updater = solver.row_updater()

    def change(slot, iteration):
        flat = solver.net.learnable[slot].data.reshape(-1)
        before = flat.copy()
        g = np.ones_like(flat)
        updater.apply(iteration, [RowPiece(slot, flat, g, updater.history_of(slot))], 1)
        return float((before - flat).mean())

    assert [change(0, i) for i in range(3)] == pytest.approx([1, 0.1, 0.01], rel=1e-3)
    assert [change(2, i) for i in range(3)] == pytest.approx([1, 0.1, 0.01], rel=1e-3)
    assert change(3, 2) == pytest.approx(0.01, rel=1e-3)


def test_several_updaters_start_where_the_solver_is(tmp_path):
    text = 'lr_policy: "multistep" gamma: 0.1 stepvalue: 2 stepvalue: 4'
    solver = make_solver(text)
    feed(solver)
    solver.step(3)
    first, second = solver.row_updater(), solver.row_updater()
    flat = solver.net.learnable[0].data.reshape(-1)
    for updater in (first, second):
        before = flat.copy()
        piece = RowPiece(0, flat, np.ones_like(flat), updater.history_of(0))
        updater.apply(3, [piece], 1.0)
        assert float((before - flat).mean()) == pytest.approx(0.01, rel=1e-3)
    assert solver.schedule.current_step == 1


@pytest.mark.parametrize("kind", ["SGD", "Adam"])
def test_an_updater_of_another_thread_beside_busy_kernels(kind):
    """Both threads get the bits they get alone; no thread count changes."""
    ops = get_ops("cpu", 2)
    if ops.name != "cpu":
        pytest.skip("no oneDNN")
    geometry = ConvGeometry((4, 16, 20, 20), 32, (3, 3), (1, 1), (1, 1), (1, 1))
    kernel = ops.convolution(geometry)
    random = np.random.default_rng(0)
    x = Blob((4, 16, 20, 20), channels_last=True).data
    y = Blob((4, 32, 20, 20), channels_last=True).data
    x[...] = random.standard_normal(x.shape)
    w = random.standard_normal((32, 16, 3, 3)).astype(np.float32)
    b = np.ones(32, np.float32)

    def convolve():
        kernel.forward(x, w, b, y)
        return y.tobytes()

    def train(solver, updater, count):
        for iteration in range(count):
            for slot, gradient in enumerate(random_gradients(solver.net, iteration)):
                pieces = pieces_of(updater, solver.net, slot, gradient, [5000, 33])
                updater.apply(iteration, pieces, 1.0)
        return state(solver)

    text = f'type: "{kind}" {RULES[kind]}'
    alone = make_solver(text, WIDE, backend="cpu")
    want, product = train(alone, alone.row_updater(), 60), convolve()
    solver = make_solver(text, WIDE, backend="cpu")
    ops.dnnl.set_threads(2)
    seen = {}

    def other():
        # Made here: OpenMP's number of threads belongs to the calling thread.
        own = get_ops("cpu", 1)
        seen["threads"] = own.dnnl.lib.omp_get_max_threads()
        seen["state"] = train(solver, solver.row_updater(own), 60)

    thread = threading.Thread(target=other)
    thread.start()
    while thread.is_alive():
        assert convolve() == product
    thread.join()
    assert seen == {"threads": 1, "state": want}
    assert ops.dnnl.lib.omp_get_max_threads() == 2
