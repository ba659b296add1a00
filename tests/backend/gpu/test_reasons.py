"""Each fault is one line that says what to do."""

from __future__ import annotations

import pytest

from poseidon_caffe.backend.gpu import reasons

GIB = 1 << 30


@pytest.mark.parametrize(
    ("driver", "wanted"),
    [
        (0, ["[gpu]' for CUDA 13", "[gpu12]' for CUDA 12", "nvidia-smi"]),
        (12040, ["pip install 'poseidon-caffe[gpu12]'"]),
        (13020, ["pip install 'poseidon-caffe[gpu]'"]),
        (14000, ["pip install 'poseidon-caffe[gpu]'"]),  # drivers run older CUDA
    ],
)
def test_the_cupy_that_fits(driver, wanted):
    text = reasons.describe_missing_cupy(driver)
    assert text.startswith("GPUs need CuPy, which is not installed: ")
    for part in wanted:
        assert part in text
    broken = reasons.describe_missing_cupy(driver, "libfoo.so: no such file")
    assert "CuPy cannot be loaded (libfoo.so: no such file)" in broken


def test_wrong_cuda_names_both():
    text = reasons.describe_old_driver(12040, 13020)
    assert "the NVIDIA driver supports CUDA 12.4 at most" in text
    assert "CuPy installed is for CUDA 13.2" in text
    assert "pip uninstall cupy-cuda13x; pip install 'poseidon-caffe[gpu12]'" in text
    # No CuPy is old enough, or a newer driver of the same CUDA is all it takes.
    for driver in (11080, 13000):
        assert reasons.describe_old_driver(driver, 13020).endswith(
            "; update the driver"
        )


def test_no_such_device_lists_those_there_are():
    assert reasons.describe_missing_device(2, ["A", "B"]) == (
        "no GPU 2: there are 0 (A), 1 (B)"
    )
    assert reasons.describe_missing_device(1, ["A"]) == "no GPU 1: there is 0 (A)"


def test_no_device_at_all():
    assert "nvidia-smi" in reasons.describe_no_devices(None)
    assert "CUDA_VISIBLE_DEVICES is '7'" in reasons.describe_no_devices("7")


def test_a_device_that_others_have():
    assert "nvidia-smi -i 3" in reasons.describe_busy(3, "A")
    assert "nvidia-smi -i 3 -c DEFAULT" in reasons.describe_prohibited(3, "A")
    assert "libcuda" not in reasons.describe_cuda(999, "cudaErrorUnknown")
    assert "stub" in reasons.describe_cuda(34, "cudaErrorStubLibrary")


def test_out_of_memory():
    known = reasons.describe_oom("fc6", 3 * GIB // 2, 700 << 20, 256, 112)
    assert known == (
        "out of GPU memory at layer 'fc6': wanted 1.50 GiB, 700.00 MiB free; "
        "a batch of 112 would fit, this one is 256"
    )
    assert reasons.describe_oom("fc6", 1, 0).endswith(
        "wanted 1 bytes, 0 bytes free; take a smaller batch_size"
    )
    assert "not even a batch of 1" in reasons.describe_oom("fc6", 1, 0, 8, 0)
    # An estimate that is no help is not told.
    assert reasons.describe_oom("fc6", 1, 0, 8, 9).endswith("a smaller batch_size")


def test_sizes():
    assert reasons.format_bytes(1023) == "1023 bytes"
    assert reasons.format_bytes(1536) == "1.50 KiB"
    assert reasons.format_bytes(3 << 50) == "3072.00 TiB"
