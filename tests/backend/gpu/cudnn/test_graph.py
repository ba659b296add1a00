"""Graphs of the real library, made for a described GPU: no device is needed.

cuDNN (9.8 and newer) makes execution plans for a device that is described by JSON, so
that every descriptor, attribute and engine is checked by the library itself.  That
needs its sub-libraries, which want ``libcuda.so.1`` to be there.
"""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest

from poseidon_caffe.backend.geometry import ConvGeometry
from poseidon_caffe.backend.gpu.cudnn.backend_descriptor import BackendDescriptor
from poseidon_caffe.backend.gpu.cudnn.choices import Choice, Choices
from poseidon_caffe.backend.gpu.cudnn.constants import MathType
from poseidon_caffe.backend.gpu.cudnn.engines import Engines, allowed
from poseidon_caffe.backend.gpu.cudnn.graph import GraphPlanner
from poseidon_caffe.backend.gpu.cudnn.graph_constants import Note
from poseidon_caffe.backend.gpu.cudnn.handle import Workspace
from poseidon_caffe.backend.gpu.cudnn.layout import Layout, dense_strides, padded_axes
from poseidon_caffe.backend.gpu.cudnn.operation_graph import GraphBuilder
from poseidon_caffe.backend.gpu.cudnn.plan import Addresses, Direction, Request
from poseidon_caffe.backend.gpu.cudnn.settings import CudnnSettings
from poseidon_caffe.errors import BackendError

H100 = {
    "deviceName": "NVIDIA H100 80GB HBM3", "deviceVer": 900, "driverVer": 13000,
    "cudaDeviceId": 0, "pciDeviceId": 0, "isTccDriver": 0, "supportCoopLaunch": 1,
    "maxGridSize": [2147483647, 65535, 65535], "maxBlockSize": [1024, 1024, 64],
    "regsPerBlock": 65536, "maxRegistersPerSM": 65536, "multiProcessorCount": 132,
    "warpSize": 32, "maxSharedMemoryPerBlock": 49152,
    "maxSharedMemoryPerBlockOptin": 232448, "reservedSharedMemoryPerBlock": 1024,
    "oversizedSharedMemoryPerBlock": 0, "maxCtasPerSM": 32, "maxThreadsPerBlock": 1024,
    "maxThreadsPerSM": 2048, "totalGlobalMem": 85_000_000_000,
    "smClockRateKHz": 1_980_000, "memClockRateKHz": 2_619_000, "memoryBusWidth": 5120,
    "l2CacheSize": 52_428_800,
}  # fmt: skip
DEVICE_KIND, DEVICE_JSON, CHARACTERS = 38, 2702, 24
HEURISTICS_DEVICE, ENGINE_DEVICE, PLAN_DEVICE = 204, 1307, 407

G = ConvGeometry((8, 64, 28, 28), 128, (3, 3), (1, 1), (1, 1), (1, 1), relu=0.0)
PLAIN = CudnnSettings(autotune=False)


class DescribedTarget:
    """A GPU that is described only."""

    def __init__(self, library):
        self._device = BackendDescriptor(library, DEVICE_KIND)
        self._device.put(DEVICE_JSON, CHARACTERS, library.text(json.dumps(H100)))
        self._device.finalize()

    def graph(self, descriptor):
        pass

    def heuristics(self, descriptor):
        descriptor.refer(HEURISTICS_DEVICE, self._device)

    def engine(self, descriptor):
        descriptor.refer(ENGINE_DEVICE, self._device)

    def plan(self, descriptor):
        descriptor.refer(PLAN_DEVICE, self._device)


@pytest.fixture(scope="module")
def target(library):
    try:
        return DescribedTarget(library)
    except BackendError as error:
        pytest.skip(f"the library knows no described devices here: {error}")


def lay(shape, channels_last):
    dims = padded_axes(shape)
    return Layout(dims, dense_strides(dims, channels_last=channels_last), channels_last)


def request(direction=Direction.FORWARD, geometry=G, dtype="float16", last=True):
    return Request(
        direction, geometry, np.dtype(dtype), lay(geometry.x_shape, last),
        lay(geometry.y_shape, last),
    )  # fmt: skip


def first_plan(library, target, wanted, settings=PLAIN, *, fused=False):
    graph = GraphBuilder(library, wanted, fused=fused).build(target)
    engines = Engines(library, graph, target)
    choices = list(engines.choices(settings, settings.math_type(wanted.dtype)))
    assert choices
    assert engines.plan(choices[0]) is not None
    return choices


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "uint16"])
@pytest.mark.parametrize("direction", Direction)
def test_every_product_has_an_engine(library, target, direction, dtype, last):
    first_plan(library, target, request(direction, dtype=dtype, last=last))


@pytest.mark.parametrize("relu", [None, 0.0])
@pytest.mark.parametrize("dtype", ["float32", "float16", "uint16"])
def test_bias_and_relu_fuse(library, target, dtype, relu):
    geometry = dataclasses.replace(G, relu=relu)
    first_plan(library, target, request(geometry=geometry, dtype=dtype), fused=True)


@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize(
    "geometry",
    [
        ConvGeometry((4, 16, 50), 8, (3,), (2,), (1,), (2,)),
        ConvGeometry((2, 8, 6, 7, 8), 4, (3, 3, 3), (2,) * 3, (1,) * 3, (1,) * 3),
        ConvGeometry((2, 8, 9, 9), 12, (3, 3), (1, 2), (2, 2), (2, 1), group=4),
    ],
)
def test_axes_and_groups(library, target, geometry, direction):
    first_plan(library, target, request(direction, geometry, "float32"))


def test_engines_come_with_knobs_and_notes(library, target):
    choices = first_plan(library, target, request())
    assert any(choice.knobs for choice in choices)
    exact = first_plan(library, target, request(dtype="float32"))
    fast = first_plan(
        library, target, request(dtype="float32"), CudnnSettings(tf32=True)
    )
    assert set(exact) < set(fast)


def stand_for_handle(standin, library, settings):
    """A handle as far as planning goes; what would run is recorded."""
    device = standin.StandInDevice()
    ran = []
    return SimpleNamespace(
        library=library, device=device, settings=settings, choices=Choices(None),
        workspace=Workspace(device), address=0, ran=ran,
        call=lambda name, *arguments: ran.append((name, arguments)),
    )  # fmt: skip


AT = Addresses(0x10000, 0x20000, 0x30000, 0x40000)


def test_a_configuration_that_cannot_be_read_is_passed_over():
    class Odd(Engines):
        def _ask(self, mode):
            return ["broken", "whole"]

        def _read(self, configuration):
            if configuration == "broken":
                raise BackendError("no such attribute")
            return Choice(7), set()

    found = Odd(None, None, None).choices(PLAIN, MathType.FMA)
    assert [choice.algorithm for choice in found] == [7]


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_unmeasured_plans_fuse_where_tensor_cores_may_be_used(
    standin, library, target, dtype
):
    handle = stand_for_handle(standin, library, PLAIN)
    plan = GraphPlanner(handle, target).plan(request(dtype=dtype), AT, lambda: None)
    assert plan.fuses is (dtype == "float16")
    assert plan.run_fused(AT) is plan.fuses
    plan.run(AT)
    assert {name for name, _ in handle.ran} == {"cudnnBackendExecute"}
    assert len(handle.ran) == 1 + plan.fuses
    with pytest.raises(BackendError, match="cannot add"):
        plan.run(AT, accumulate=True)


def test_a_pack_serves_until_an_address_changes(standin, library, target):
    handle = stand_for_handle(standin, library, PLAIN)
    plan = GraphPlanner(handle, target).plan(request(Direction.DATA), AT)
    for x in (AT.x, AT.x, 0x50000):
        plan.run(dataclasses.replace(AT, x=x))
    packs = [arguments[1] for _, arguments in handle.ran]
    assert packs[0] == packs[1] != packs[2]


def test_measured_choices_are_kept(standin, library, target):
    settings = CudnnSettings(workspace_limit=1 << 20)
    handle = stand_for_handle(standin, library, settings)
    planner = GraphPlanner(handle, target)
    assert planner.plan(request(Direction.FILTER), AT).works
    assert 1 < len(handle.ran) <= 16 * 4
    key = request(Direction.FILTER).key(settings, "graph")
    assert handle.choices.get(key).milliseconds == 1.0
    assert handle.choices.get(key).workspace <= 1 << 20
    handle.ran.clear()
    assert planner.plan(request(Direction.FILTER), AT).works
    assert handle.ran == []


@pytest.mark.parametrize(
    ("notes", "settings", "math", "expected"),
    [
        (set(), CudnnSettings(), MathType.FMA, True),
        ({Note.TENSOR_CORE}, CudnnSettings(), MathType.FMA, False),
        ({Note.TENSOR_CORE}, CudnnSettings(), MathType.DEFAULT, True),
        ({Note.DOWN_CONVERT_INPUTS}, CudnnSettings(), MathType.DEFAULT, False),
        ({Note.TENSOR_CORE}, CudnnSettings(), MathType.TENSOR_OP, True),
        (
            {Note.NONDETERMINISTIC},
            CudnnSettings(deterministic=True),
            MathType.TENSOR_OP,
            False,
        ),
        ({Note.NONDETERMINISTIC}, CudnnSettings(), MathType.FMA, True),
    ],
)
def test_which_engines_are_allowed(notes, settings, math, expected):
    assert allowed(notes, settings, math) is expected
