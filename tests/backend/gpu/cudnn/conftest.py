"""Handles for tests: the stand-in's, the real library's, a real GPU's."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from poseidon_caffe.backend.gpu.cudnn.handle import Handle
from poseidon_caffe.backend.gpu.cudnn.settings import CudnnSettings
from poseidon_caffe.backend.gpu.cudnn_library import open_library
from poseidon_caffe.errors import BackendError


def _load(name):
    """A module beside this file (tests are no package)."""
    full = f"tests_gpu_cudnn_{name}"
    if full not in sys.modules:
        path = Path(__file__).with_name(f"{name}.py")
        spec = importlib.util.spec_from_file_location(full, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[full] = module
        spec.loader.exec_module(module)
    return sys.modules[full]


@pytest.fixture(scope="session")
def standin():
    """The module of the stand-in."""
    return _load("standin")


@pytest.fixture(scope="session")
def host_kit(standin):
    """Arrays of the stand-in's device."""
    return standin.HostKit()


@pytest.fixture
def handle(standin):
    """A handle of the stand-in, for its device."""
    made = Handle(standin.StandIn(), standin.StandInDevice(), CudnnSettings())
    yield made
    made.close()


@pytest.fixture(scope="session")
def library():
    """The real library."""
    try:
        return open_library()
    except BackendError as error:
        pytest.skip(str(error).split("; tried", maxsplit=1)[0])


@pytest.fixture(scope="session")
def real(library):
    """What makes handles and arrays on a real GPU."""
    return _load("real_device").RealKit(library)
