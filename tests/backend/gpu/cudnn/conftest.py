"""Handles for tests: the stand-in's, the real library's, a real GPU's."""

from __future__ import annotations

import pytest

from poseidon_caffe.backend.gpu.cudnn.handle import Handle
from poseidon_caffe.backend.gpu.cudnn.library import open_library
from poseidon_caffe.backend.gpu.cudnn.settings import CudnnSettings
from poseidon_caffe.errors import BackendError
from tests.backend.gpu.cudnn import standin as stand_in_module


@pytest.fixture(scope="session")
def standin():
    """The module of the stand-in."""
    return stand_in_module


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
    from tests.backend.gpu.cudnn.real_device import RealKit

    return RealKit(library)
