"""A real GPU for tests, through CuPy alone: slow kernels, obvious ones."""

from __future__ import annotations

import numpy as np

from poseidon_caffe.backend.gpu.cudnn.handle import Handle
from poseidon_caffe.backend.gpu.cudnn.settings import CudnnSettings
from poseidon_caffe.backend.reference.conv import ReferenceConv
from poseidon_caffe.backend.reference.workspace import Workspace


class RealDevice:
    """`CudnnDevice` of the current GPU, on CuPy's null stream."""

    def __init__(self):
        import cupy

        self.cupy = cupy
        number = cupy.cuda.Device().id
        self.name = cupy.cuda.runtime.getDeviceProperties(number)["name"].decode()
        digits = cupy.cuda.Device().compute_capability
        self.compute_capability = (int(digits[:-1]), int(digits[-1]))
        self.stream_ptr = cupy.cuda.get_current_stream().ptr
        self._number = number

    def claim(self):
        self.cupy.cuda.Device(self._number).use()

    def widened(self, values):
        cupy = self.cupy
        if values.dtype == np.uint16:
            values = (values.astype(cupy.uint32) << 16).view(cupy.float32)
        return values.astype(cupy.float64)

    def narrowed(self, values, dtype):
        cupy = self.cupy
        if np.dtype(dtype) != np.uint16:
            return values.astype(dtype)
        bits = cupy.ascontiguousarray(values.astype(cupy.float32)).view(cupy.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(cupy.uint16)

    def allocate(self, size):
        return self.cupy.cuda.alloc(size)

    def empty(self, shape, dtype, *, channels_last):
        order = [0, *range(2, len(shape)), 1] if channels_last else range(len(shape))
        room = self.cupy.empty([shape[axis] for axis in order], dtype)
        return room.transpose([int(axis) for axis in np.argsort(list(order))])

    def cast(self, source, target, *, accumulate=False):
        values = self.widened(source)
        if accumulate:
            values = values + self.widened(target)
        target[...] = self.narrowed(values, target.dtype)

    def fill(self, array, value):
        array[...] = value

    def scale(self, array, factor):
        array *= factor

    def add_bias(self, y, b, slope):
        values = self.widened(y)
        if b is not None:
            values += self.widened(b).reshape(-1, *[1] * (y.ndim - 2))
        if slope is not None:
            values = self.cupy.where(values < 0, values * slope, values)
        y[...] = self.narrowed(values, y.dtype)

    def bias_gradient(self, dy, db, *, accumulate):
        total = self.widened(dy).sum(axis=(0, *range(2, dy.ndim)))
        db[...] = total + (db if accumulate else 0)

    def measure(self, work):
        before, after = (self.cupy.cuda.Event() for _ in range(2))
        before.record()
        work()
        after.record()
        after.synchronize()
        return self.cupy.cuda.get_elapsed_time(before, after)


class OnHost:
    """The reference convolution for device arrays, where cuDNN has no kernel."""

    def __init__(self, geometry, device):
        self._kernel, self._device = ReferenceConv(geometry, Workspace()), device

    def _get(self, array):
        return None if array is None else self._device.widened(array).get()

    def _put(self, values, array):
        wide = self._device.cupy.asarray(values)
        array[...] = self._device.narrowed(wide, array.dtype)

    def forward(self, x, w, b, y, key=None):
        out = np.zeros(y.shape)
        self._kernel.forward(self._get(x), self._get(w), self._get(b), out)
        self._put(out, y)

    def backward_data(self, dy, w, dx, key=None):
        out = np.zeros(dx.shape)
        self._kernel.backward_data(self._get(dy), self._get(w), out)
        self._put(out, dx)

    def backward_weights(self, x, dy, dw, db, *, accumulate):
        of_w, of_b = self._get(dw), self._get(db)
        self._kernel.backward_weights(
            self._get(x), self._get(dy), of_w, of_b, accumulate=accumulate
        )
        self._put(of_w, dw)
        if db is not None:
            self._put(of_b, db)


class RealKit:
    """Handles and arrays of the current GPU."""

    def __init__(self, library):
        self._library = library
        self.device = RealDevice()

    def handle(self, settings=None):
        return Handle(self._library, self.device, settings or CudnnSettings())

    def own_convolution(self, geometry):
        return OnHost(geometry, self.device)

    def put(self, values, dtype, channels_last):
        last = channels_last and values.ndim > 2
        array = self.device.empty(values.shape, dtype, channels_last=last)
        array[...] = self.device.narrowed(self.device.cupy.asarray(values), dtype)
        return array

    def get(self, array):
        return self.device.widened(array).get()
