"""Device arrays of any storage type and layout, from NumPy's numbers and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from poseidon_caffe.backend.gpu.device import BFLOAT16
from tests.devices import gpu_ops

FLOAT, HALF, BFLOAT = np.dtype(np.float32), np.dtype(np.float16), BFLOAT16
#: Relative size of a rounding step.
STEP = {FLOAT: 1e-6, HALF: 2.0**-10, BFLOAT: 2.0**-7}


def stored(values: np.ndarray, storage: np.dtype) -> np.ndarray:
    """As the storage type has them, rounded to nearest even."""
    if storage != BFLOAT:
        return values.astype(storage)
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def rounded(values: np.ndarray, storage: np.dtype) -> np.ndarray:
    """The numbers that are left after storing."""
    return _numbers(stored(values, storage))


def there(
    values: Any, storage: np.dtype = FLOAT, *, channels_last: bool = False
) -> Any:
    """A device array of the shape of ``values``."""
    values = stored(np.asarray(values), storage)
    if channels_last:
        values = np.moveaxis(values, 1, -1)
    values = np.ascontiguousarray(values)
    array = gpu_ops().memory.zeros(values.size, values.dtype)
    gpu_ops().memory.upload(values.reshape(-1), array)
    array = array.reshape(values.shape)
    if not channels_last:
        return array
    last = values.ndim - 1
    return array.transpose((0, last, *range(1, last)))


def here(array: Any) -> np.ndarray:
    """The numbers of a device array, in float64."""
    ops, found = gpu_ops(), np.empty(array.shape, array.dtype)
    if not array.flags.c_contiguous:
        # Bytes come as they lie.
        plain = ops.memory.zeros(array.size, array.dtype).reshape(array.shape)
        ops.copy(array, plain)
        array = plain
    ops.memory.download(array, found)
    return _numbers(found)


def assert_near(
    got: Any, want: np.ndarray, storage: np.dtype, steps: float = 4
) -> None:
    """Within some rounding steps of the largest value."""
    got = here(got)
    bound = steps * STEP[storage] * max(float(np.abs(want).max(initial=0)), 1e-30)
    assert np.abs(got - want).max(initial=0) <= bound


def _numbers(bits: np.ndarray) -> np.ndarray:
    if bits.dtype == BFLOAT:
        bits = (bits.astype(np.uint32) << 16).view(np.float32)
    return bits.astype(np.float64)
