from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from poseidon_caffe.backend.gpu.cudnn.handle import Handle, Workspace
from poseidon_caffe.backend.gpu.cudnn.layout import Layout
from poseidon_caffe.backend.gpu.cudnn.settings import CudnnSettings
from poseidon_caffe.errors import BackendError

MIB = 1 << 20
LAYOUT = Layout((2, 3, 4, 5), (60, 20, 5, 1), channels_last=False)


def test_the_workspace_grows_and_stays(standin):
    device = standin.StandInDevice()
    workspace = Workspace(device)
    assert workspace.address(0) is None
    assert device.allocated == []
    first = workspace.address(1000)
    assert workspace.address(MIB) == first
    assert device.allocated == [MIB]
    workspace.address(MIB + 1)
    assert device.allocated == [MIB, 2 * MIB]
    assert workspace.size == 2 * MIB


def test_a_pinned_workspace_is_never_freed(standin):
    workspace = Workspace(standin.StandInDevice())
    first = workspace.address(1000)
    workspace.pin()
    workspace.address(3 * MIB)
    assert [memory.ptr for memory in workspace._pinned] == [first]


def test_a_failed_growth_leaves_no_size(standin):
    device = standin.StandInDevice()
    workspace = Workspace(device)
    workspace.address(1000)
    device.limit = MIB
    with pytest.raises(MemoryError):
        workspace.address(2 * MIB)
    assert workspace.size == 0
    assert workspace.address(1000)


def test_calls_follow_the_devices_stream(handle):
    of = handle.library._objects[handle.address]
    assert of.stream == 0x1234
    handle.device.stream_ptr = 0x5678
    handle.call("cudnnGetConvolutionForwardAlgorithmMaxCount", handle.library.ints())
    assert of.stream == 0x5678
    handle.device.stream_ptr = 0
    handle.call("cudnnGetConvolutionForwardAlgorithmMaxCount", handle.library.ints())
    assert of.stream is None


def test_every_call_makes_the_gpu_the_threads_own(handle):
    before = handle.device.claimed
    assert before
    count = ("cudnnGetConvolutionForwardAlgorithmMaxCount", handle.library.ints())
    handle.call(*count)
    assert handle.supported(*count)
    assert handle.attempt(*count) == 0
    assert handle.device.claimed == before + 3


def test_factors_have_the_width_that_the_data_wants(handle):
    assert handle.factor(1.0, np.float16)._type_.__name__ == "c_float"
    assert handle.factor(1.0, np.float64)._type_.__name__ == "c_double"
    assert handle.factor(0.5, np.float32)[0] == 0.5


def test_descriptors_are_made_once_and_destroyed_with_the_handle(standin):
    library = standin.StandIn()
    handle = Handle(library, standin.StandInDevice(), CudnnSettings())
    first = handle.tensor(np.float32, LAYOUT)
    assert handle.tensor(np.dtype("f4"), LAYOUT) == first
    assert handle.tensor(np.float16, LAYOUT) != first
    handle.close()
    handle.close()
    assert library._objects == {}


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="there is a GPU")
def test_without_a_gpu_the_library_says_why(library, standin):
    expected = r"cudnnCreate failed: CUDNN_STATUS_NOT_INITIALIZED \(1001\)"
    with pytest.raises(BackendError, match=expected):
        Handle(library, standin.StandInDevice(), CudnnSettings())
