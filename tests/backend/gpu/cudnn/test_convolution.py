"""Convolution against the reference, on the stand-in and on a real GPU."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from poseidon_caffe.backend.geometry import ConvGeometry
from poseidon_caffe.backend.gpu.cudnn.convolution import (
    CudnnConvolution,
    CudnnGraphConvolution,
)
from poseidon_caffe.backend.gpu.cudnn.handle import Handle
from poseidon_caffe.backend.gpu.cudnn.settings import CudnnSettings
from poseidon_caffe.backend.gpu.emulator.array import DeviceArray
from poseidon_caffe.backend.reference.conv import ReferenceConv
from poseidon_caffe.backend.reference.workspace import Workspace

CASES = {
    "plain": ConvGeometry((2, 3, 7, 6), 4, (3, 3), (1, 1), (1, 1), (1, 1)),
    "relu": ConvGeometry((2, 4, 7, 6), 4, (3, 2), (2, 1), (1, 0), (1, 1), relu=0.0),
    "slope": ConvGeometry((2, 4, 5, 6), 4, (1, 1), (1, 1), (0, 0), (1, 1), relu=0.1),
    "no bias": ConvGeometry(
        (2, 4, 7, 6), 4, (3, 3), (2, 2), (1, 1), (1, 1), bias=False, relu=0.0
    ),
    "group": ConvGeometry((2, 4, 7, 9), 6, (3, 3), (1, 2), (0, 2), (2, 1), group=2),
    "depthwise": ConvGeometry((2, 4, 7, 6), 4, (3, 3), (1, 1), (1, 1), (1, 1), group=4),
    "one axis": ConvGeometry((2, 4, 11), 6, (3,), (2,), (1,), (2,)),
    "three axes": ConvGeometry(
        (2, 3, 4, 5, 6), 4, (2, 3, 1), (1, 2, 1), (1, 1, 0), (1, 1, 2)
    ),
}
LOOSE = {"float32": 2e-5, "float64": 1e-12, "float16": 6e-3, "uint16": 5e-2}


class Refusing:
    """A kernel of the device that no case of these tests should need."""

    def __getattr__(self, name):
        raise AssertionError(f"fell to the device's own {name}")


def operands(geometry, dtype, seed=3):
    """x, w, b, dy, old dw and db; activations are exact in ``dtype``."""
    rng = np.random.default_rng(seed)
    g = geometry
    x, dy = (rng.integers(-8, 9, s) / 8.0 for s in (g.x_shape, g.y_shape))
    w = rng.integers(-8, 9, g.w_shape) / 16.0
    b = rng.integers(-8, 9, g.num_output) / 8.0
    return x, w, b if g.bias else None, dy, rng.random(w.shape), rng.random(b.shape)


def expected(geometry, x, w, b, dy, dw, db):
    kernel = ReferenceConv(geometry, Workspace())
    y, dx = np.zeros(geometry.y_shape), np.zeros(geometry.x_shape)
    dw, db = dw.copy(), db.copy()
    kernel.forward(x, w, b, y)
    kernel.backward_data(dy, w, dx)
    kernel.backward_weights(x, dy, dw, db if b is not None else None, accumulate=True)
    return y, dx, dw, db


def close(got, want, loose):
    assert got.shape == want.shape
    bound = loose * (np.abs(want) + np.abs(want).max())
    assert np.isfinite(got).all()
    assert (np.abs(got - want) <= bound).all(), np.abs(got - want).max()


def check(kit, make, geometry, dtype, channels_last):
    """All three products of a kernel, twice (chosen, then known)."""
    arrays = operands(geometry, dtype)
    x, w, b, dy, dw, db = arrays
    want = expected(geometry, *arrays)
    loose = LOOSE[dtype]
    param = "float64" if dtype == "float64" else "float32"
    kernel = make(geometry)
    on_x, on_dy = (kit.put(each, dtype, channels_last) for each in (x, dy))
    on_w = kit.put(w, param, False)
    on_b = None if b is None else kit.put(b, param, False)
    for key in (1, 1, 2, None):
        on_y, on_dx = (kit.put(each * np.nan, dtype, channels_last) for each in (dy, x))
        on_dw, on_db = kit.put(dw, param, False), kit.put(db, param, False)
        kernel.forward(on_x, on_w, on_b, on_y, key)
        kernel.backward_data(on_dy, on_w, on_dx, key)
        kernel.backward_weights(
            on_x, on_dy, on_dw, None if b is None else on_db, accumulate=True
        )
        for got, right in zip((on_y, on_dx, on_dw, on_db), want, strict=True):
            close(kit.get(got), right, loose)
        kernel.backward_weights(on_x, on_dy, on_dw, None, accumulate=False)
        close(kit.get(on_dw) + dw, want[2], loose)


@pytest.mark.parametrize("channels_last", [False, True], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", sorted(LOOSE))
@pytest.mark.parametrize("name", CASES)
def test_legacy_equals_the_reference(handle, host_kit, name, dtype, channels_last):
    check(
        host_kit,
        lambda g: CudnnConvolution(g, handle, Refusing()),
        CASES[name], dtype, channels_last,
    )  # fmt: skip


def test_bias_and_relu_are_fused_where_the_library_can(handle, host_kit):
    kit, geometry = host_kit, CASES["relu"]
    check(kit, lambda g: CudnnConvolution(g, handle, Refusing()), geometry, "float32",
          False)  # fmt: skip
    fused = "cudnnConvolutionBiasActivationForward"
    assert fused in handle.library.calls
    assert handle.device.biased == 0
    handle.library.calls.clear()
    handle.library.refused.add(fused)
    check(kit, lambda g: CudnnConvolution(g, handle, Refusing()), geometry, "float32",
          False)  # fmt: skip
    assert handle.library.calls.count(fused) == 1
    assert handle.device.biased == 4


def test_a_bias_alone_is_fused_by_the_one_algorithm_that_does_it(standin, host_kit):
    """The library wants an identity that does not propagate NaN there."""
    handle = Handle(
        standin.StandIn(), standin.StandInDevice(), CudnnSettings(workspace_limit=4096)
    )
    check(host_kit, lambda g: CudnnConvolution(g, handle, Refusing()), CASES["plain"],
          "float32", False)  # fmt: skip
    assert "cudnnConvolutionBiasActivationForward" in handle.library.calls
    assert handle.device.biased == 0


@pytest.mark.parametrize("status", [2000, 4000, 5000])
def test_a_search_that_fails_leaves_the_heuristics(handle, host_kit, status):
    """Whatever the library says: that it cannot tell how large its scratch memory is,
    or that a trial went wrong."""
    library, run = handle.library, handle.library._run

    def fail(name, *arguments):
        of_a_trial = name.startswith("cudnnFind")
        sizes = name.endswith("WorkspaceSize") and arguments[5] == 5
        return status if of_a_trial or sizes else run(name, *arguments)

    for name in library._functions:
        library._functions[name] = functools.partial(fail, name)
    check(host_kit, lambda g: CudnnConvolution(g, handle, Refusing()), CASES["plain"],
          "float32", False)  # fmt: skip


def test_choices_are_measured_once_and_kept(standin, host_kit, tmp_path):
    kit, geometry = host_kit, CASES["plain"]
    settings = CudnnSettings(cache=tmp_path)
    for first in (True, False):
        handle = Handle(standin.StandIn(), standin.StandInDevice(), settings)
        check(kit, lambda g, h=handle: CudnnConvolution(g, h, Refusing()), geometry,
              "float32", True)  # fmt: skip
        found = [name for name in handle.library.calls if name.startswith("cudnnFind")]
        assert len(found) == (3 if first else 0)
        handle.close()


@pytest.mark.parametrize(
    ("settings", "algorithm"),
    [
        (CudnnSettings(), 5),
        (CudnnSettings(deterministic=True), 2),
        (CudnnSettings(workspace_limit=4096), 1),
        (CudnnSettings(workspace_limit=0, deterministic=True), None),
        (CudnnSettings(autotune=False), 0),
        (CudnnSettings(autotune=False, deterministic=True), 1),
    ],
)
def test_the_settings_limit_the_choice(standin, host_kit, settings, algorithm):
    handle = Handle(standin.StandIn(), standin.StandInDevice(), settings)
    kit, geometry = host_kit, CASES["plain"]
    x, w, _, dy, _, _ = operands(geometry, "float32")
    own = []

    class Own:
        def backward_data(self, *arrays):
            own.append(arrays)

    kernel = CudnnConvolution(geometry, handle, Own())
    on_dx = kit.put(x, "float32", False)
    kernel.backward_data(kit.put(dy, "float32", False), kit.put(w, "float32", False),
                         on_dx)  # fmt: skip
    plans = [product.plan for product in kernel._products.values()]
    if algorithm is None:
        assert plans == [None]
        assert len(own) == 1
    else:
        assert [plan.algorithm for plan in plans] == [algorithm]
        assert not own
    assert all(size <= max(settings.workspace_limit, 1 << 20)
               for size in handle.device.allocated)  # fmt: skip


def test_a_device_short_of_memory_measures_without_scratch(standin, host_kit):
    handle = Handle(standin.StandIn(), standin.StandInDevice(), CudnnSettings())
    handle.device.limit = 0
    kit, geometry = host_kit, CASES["plain"]
    x, w, _, dy, _, _ = operands(geometry, "float32")
    kernel = CudnnConvolution(geometry, handle, Refusing())
    with pytest.raises(MemoryError):
        kernel.backward_data(kit.put(dy, "float32", False),
                             kit.put(w, "float32", False),
                             kit.put(x, "float32", False))  # fmt: skip
    assert "cudnnFindConvolutionBackwardDataAlgorithmEx" in handle.library.calls


def test_other_strides_and_geometries_go_to_the_devices_own_kernel(handle):
    calls = []

    class Own:
        def forward(self, *arrays):
            calls.append("forward")

        def backward_data(self, *arrays):
            calls.append("data")

        def backward_weights(self, *arrays, accumulate):
            calls.append("weights")

    def array(shape):
        return DeviceArray(np.zeros(shape, np.float32))

    g = CASES["plain"]
    kernel = CudnnConvolution(g, handle, Own())
    x = DeviceArray(np.zeros((2, 3, 7, 12), np.float32)[..., ::2])
    y, w = array(g.y_shape), array(g.w_shape)
    kernel.forward(x, w, None, y)
    kernel.backward_data(y, w, x)
    kernel.backward_weights(x, y, w, None, accumulate=False)
    assert calls == ["forward", "data", "weights"]
    empty = ConvGeometry((0, 3, 7, 6), 4, (3, 3), (1, 1), (1, 1), (1, 1))
    kernel = CudnnConvolution(empty, handle, Own())
    kernel.forward(array(empty.x_shape), w, None, array(empty.y_shape))
    assert calls[3:] == ["forward"]


# -- a real GPU ------------------------------------------------------------------------
@pytest.mark.gpu
@pytest.mark.parametrize("kind", [CudnnConvolution, CudnnGraphConvolution])
@pytest.mark.parametrize("channels_last", [False, True], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", sorted(LOOSE))
@pytest.mark.parametrize("name", CASES)
def test_real_convolution_equals_the_reference(real, name, dtype, channels_last, kind):
    # The graph interface compiles each engine that it tries: once is enough.
    autotune = kind is CudnnConvolution or name == "plain"
    settings = CudnnSettings(workspace_limit=64 << 20, autotune=autotune)
    handle = real.handle(settings)
    check(real, lambda g: kind(g, handle, real.own_convolution(g)), CASES[name], dtype,
          channels_last)  # fmt: skip


@pytest.mark.gpu
@pytest.mark.parametrize("kind", [CudnnConvolution, CudnnGraphConvolution])
def test_real_deterministic_gradients_have_the_same_bits(real, kind):
    handle = real.handle(CudnnSettings(deterministic=True))
    g = ConvGeometry((16, 32, 28, 28), 64, (3, 3), (1, 1), (1, 1), (1, 1))
    x, _, _, dy, dw, _ = operands(g, "float32")
    kernel = kind(g, handle, Refusing())
    on_x, on_dy = (real.put(each, "float32", True) for each in (x, dy))
    results = []
    for _ in range(5):
        on_dw = real.put(dw, "float32", False)
        kernel.backward_weights(on_x, on_dy, on_dw, None, accumulate=False)
        results.append(real.get(on_dw))
    assert all((each == results[0]).all() for each in results)
