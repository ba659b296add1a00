"""cuDNN's older interface done by NumPy on host memory, for tests without a GPU.

It knows the C functions by their headers alone: which argument is what is written
down here a second time, descriptors keep the numbers that they were given, operands
are read and written by address and strides.  So wrong orders, descriptors, factors
and layouts of the wrappers show as wrong results.
"""

from __future__ import annotations

import ctypes
import functools
from types import SimpleNamespace

import numpy as np
from numpy.lib.stride_tricks import as_strided

from poseidon_caffe.backend.geometry import ConvGeometry, LrnGeometry, PoolGeometry
from poseidon_caffe.backend.gpu.cudnn.library import _TYPES, SIGNATURES, Library
from poseidon_caffe.backend.gpu.emulator.array import DeviceArray, host_view
from poseidon_caffe.backend.reference.conv import ReferenceConv
from poseidon_caffe.backend.reference.lrn import ReferenceLrn
from poseidon_caffe.backend.reference.pool import ReferencePool
from poseidon_caffe.backend.reference.workspace import Workspace
from poseidon_caffe.errors import BackendError

BAD_PARAM, NOT_SUPPORTED = 2000, 3000
WORKSPACE = 4096
_DTYPES = {0: np.float32, 1: np.float64, 2: np.float16, 9: np.uint16}


def widened(values):
    """Numbers of any storage in float64; uint16 is bfloat16."""
    if values.dtype == np.uint16:
        values = (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float64)


def narrowed(values, dtype):
    """float64 in a storage type; bfloat16 rounds to nearest even."""
    if dtype != np.uint16:
        return values.astype(dtype)
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def memory(address, dtype, dims, strides):
    dtype = np.dtype(dtype)
    count = 1 + sum((n - 1) * s for n, s in zip(dims, strides, strict=True))
    raw = (ctypes.c_byte * (count * dtype.itemsize)).from_address(address)
    flat = np.frombuffer(raw, dtype)
    return as_strided(flat, dims, [s * dtype.itemsize for s in strides])


class StandInDevice:
    """`CudnnDevice` on host memory."""

    name = "Stand-in (tm) 9000"
    compute_capability = (9, 0)

    def __init__(self):
        self.stream_ptr = 0x1234
        self.allocated = []
        self.limit = 1 << 40
        self.biased = 0
        self.claimed = 0

    def claim(self):
        self.claimed += 1

    def allocate(self, size):
        if size > self.limit:
            raise MemoryError(size)
        self.allocated.append(size)
        room = np.zeros(size, np.uint8)
        return SimpleNamespace(ptr=room.ctypes.data, room=room)

    def empty(self, shape, dtype, *, channels_last):
        order = [0, *range(2, len(shape)), 1] if channels_last else range(len(shape))
        room = np.zeros([shape[axis] for axis in order], dtype)
        room.view(np.uint8)[...] = 0xFF  # NaN
        return DeviceArray(room.transpose(np.argsort(list(order))))

    def cast(self, source, target, *, accumulate=False):
        source, target = host_view(source), host_view(target)
        values = widened(source) + (widened(target) if accumulate else 0)
        target[...] = narrowed(values, target.dtype)

    def fill(self, array, value):
        host_view(array)[...] = value

    def scale(self, array, factor):
        host_view(array)[...] *= factor

    def add_bias(self, y, b, slope):
        self.biased += 1
        y = host_view(y)
        values = widened(y)
        if b is not None:
            values += widened(host_view(b)).reshape(-1, *[1] * (y.ndim - 2))
        if slope is not None:
            values = np.where(values < 0, values * slope, values)
        y[...] = narrowed(values, y.dtype)

    def bias_gradient(self, dy, db, *, accumulate):
        dy, db = host_view(dy), host_view(db)
        total = widened(dy).sum(axis=(0, *range(2, dy.ndim)))
        db[...] = total + (db if accumulate else 0)

    def measure(self, work):
        work()
        return 1.0


class StandIn(Library):
    """`Library` without cuDNN."""

    def __init__(self):
        self.path, self.version = "stand-in", (9, 28, 1)
        self._objects = {}
        self._made = 0
        self.calls = []
        self.refused = set()
        self._functions = {
            name: functools.partial(self._run, name) for name in SIGNATURES
        }

    def error(self, name, status):
        return BackendError(f"{name} failed: {status}")

    def _run(self, name, *arguments):
        self.calls.append(name)
        letters = SIGNATURES[name]
        assert len(arguments) == len(letters), name
        for letter, argument in zip(letters, arguments, strict=True):
            kind = _TYPES[letter]
            kind.from_param(argument) if letter == "p" else kind(argument)
        if name in self.refused:
            return NOT_SUPPORTED
        short = name.removeprefix("cudnn")
        if short.startswith("Create"):
            return self._make(short, *arguments)
        if short.startswith("Destroy"):
            del self._objects[arguments[0]]
            return 0
        return getattr(self, short)(*arguments) or 0

    def _make(self, kind, out):
        self._made += 1
        number = 0x7000 + 16 * self._made
        self._objects[number] = SimpleNamespace(kind=kind)
        out[0] = number
        return 0

    # -- descriptors -----------------------------------------------------------------
    def SetStream(self, handle, stream):
        self._objects[handle].stream = stream

    def SetTensorNdDescriptor(self, tensor, dtype, axes, dims, strides):
        assert len(dims) == len(strides) == axes >= 4
        self._objects[tensor].__dict__.update(
            dtype=_DTYPES[dtype], dims=tuple(dims), strides=tuple(strides)
        )

    def SetFilterNdDescriptor(self, weights, dtype, order, axes, dims):
        assert len(dims) == axes >= 4
        dims, axes = tuple(dims), list(range(axes))
        axes = [0, *axes[2:], 1] if order == 1 else axes
        strides, step = [0] * len(dims), 1
        for axis in reversed(axes):
            strides[axis], step = step, step * dims[axis]
        self._objects[weights].__dict__.update(
            dtype=_DTYPES[dtype], dims=dims, strides=tuple(strides)
        )

    def SetConvolutionNdDescriptor(self, conv, axes, pad, stride, dilation, mode, kind):
        assert axes == len(pad) == len(stride) == len(dilation) >= 2
        assert mode == 1
        self._objects[conv].__dict__.update(
            pad=tuple(pad), stride=tuple(stride), dilation=tuple(dilation), compute=kind
        )

    def SetConvolutionGroupCount(self, conv, group):
        self._objects[conv].group = group

    def SetConvolutionMathType(self, conv, math):
        self._objects[conv].math = math

    def SetActivationDescriptor(self, activation, mode, nan, coef):
        self._objects[activation].__dict__.update(mode=mode, nan=nan, coef=coef)

    def SetPoolingNdDescriptor(self, pool, mode, nan, axes, window, pad, stride):
        assert axes == len(window) == len(pad) == len(stride)
        self._objects[pool].__dict__.update(
            mode=mode, window=tuple(window), pad=tuple(pad), stride=tuple(stride)
        )

    def SetLRNDescriptor(self, lrn, size, alpha, beta, k):
        self._objects[lrn].__dict__.update(size=size, alpha=alpha, beta=beta, k=k)

    # -- operands --------------------------------------------------------------------
    def _view(self, tensor, address):
        of = self._objects[tensor]
        return memory(address, of.dtype, of.dims, of.strides)

    def _get(self, tensor, address):
        return widened(self._view(tensor, address))

    def _put(self, tensor, address, values, alpha, beta):
        view = self._view(tensor, address)
        wide = np.float64 if view.dtype == np.float64 else np.float32
        for factor in (alpha, beta):
            assert np.dtype(factor._type_) == wide, "factors have the wrong type"
        old = widened(view) * beta[0] if beta[0] else 0.0
        view[...] = narrowed(values * alpha[0] + old, view.dtype)

    # -- convolution -----------------------------------------------------------------
    def _kernel(self, x, w, conv, y):
        x, w, conv, y = (self._objects[each] for each in (x, w, conv, y))
        assert x.dtype == w.dtype == y.dtype
        assert conv.compute == (1 if x.dtype == np.float64 else 0)
        g = ConvGeometry(
            x.dims, w.dims[0], w.dims[2:], conv.stride, conv.pad, conv.dilation,
            conv.group,
        )  # fmt: skip
        assert g.w_shape == w.dims
        assert g.y_shape == y.dims
        return ReferenceConv(g, Workspace())

    def _count(self, handle, out):
        out[0] = 9

    GetConvolutionForwardAlgorithmMaxCount = _count
    GetConvolutionBackwardDataAlgorithmMaxCount = _count
    GetConvolutionBackwardFilterAlgorithmMaxCount = _count

    def _size(self, handle, first, second, conv, result, algorithm, out):
        if algorithm in {3, 4}:
            return NOT_SUPPORTED
        out[0] = WORKSPACE * algorithm
        return 0

    GetConvolutionForwardWorkspaceSize = _size
    GetConvolutionBackwardDataWorkspaceSize = _size
    GetConvolutionBackwardFilterWorkspaceSize = _size

    def _times(self, conv, found, times, order):
        math = self._objects[conv].math
        for place, (number, status, determinism) in enumerate(order):
            each = times[place]
            each.algo, each.status, each.math_type = number, status, math
            each.time, each.memory = place + 0.5, WORKSPACE * number
            each.determinism = determinism
        found[0] = len(order)

    def _ask(self, handle, first, second, conv, result, room, found, times):
        self._times(conv, found, times, [(0, 0, 0), (1, 0, 1)])

    GetConvolutionForwardAlgorithm_v7 = _ask
    GetConvolutionBackwardDataAlgorithm_v7 = _ask
    GetConvolutionBackwardFilterAlgorithm_v7 = _ask

    def _find(
        self, handle, first, a, second, b, conv, result, c, room, found, times, at, size
    ):
        assert room == len(times)
        self._view(result, c).view()[...] = 77  # what is there is lost
        order = [(4, NOT_SUPPORTED, 1), (5, 0, 0), (2, 0, 1), (1, 0, 1)]
        self._times(conv, found, times, order)

    FindConvolutionForwardAlgorithmEx = _find
    FindConvolutionBackwardDataAlgorithmEx = _find
    FindConvolutionBackwardFilterAlgorithmEx = _find

    def _scratch(self, algorithm, at, size):
        assert size == WORKSPACE * algorithm
        assert (at is None) == (size == 0)
        if at:
            memory(at, np.uint8, (size,), (1,))[...] = 0xEE

    def ConvolutionForward(
        self, handle, alpha, of_x, x, of_w, w, conv, algorithm, at, size, beta, of_y, y
    ):
        self._scratch(algorithm, at, size)
        out = np.zeros(self._objects[of_y].dims)
        kernel = self._kernel(of_x, of_w, conv, of_y)
        kernel.forward(self._get(of_x, x), self._get(of_w, w), None, out)
        self._put(of_y, y, out, alpha, beta)

    def ConvolutionBiasActivationForward(
        self, handle, alpha1, of_x, x, of_w, w, conv, algorithm, at, size, alpha2,
        of_z, z, of_b, b, activation, of_y, y,
    ):  # fmt: skip
        mode = self._objects[activation].mode
        if mode == 5 and (algorithm != 1 or self._objects[activation].nan):
            return NOT_SUPPORTED
        assert alpha2[0] == 0
        assert self._objects[of_b].dtype == self._objects[of_y].dtype
        self._scratch(algorithm, at, size)
        out = np.zeros(self._objects[of_y].dims)
        kernel = self._kernel(of_x, of_w, conv, of_y)
        kernel.forward(self._get(of_x, x), self._get(of_w, w), None, out)
        out = out * alpha1[0] + self._get(of_b, b)
        self._put(of_y, y, np.maximum(out, 0) if mode == 1 else out, alpha1, alpha2)
        return 0

    def ConvolutionBackwardData(
        self, handle, alpha, of_w, w, of_dy, dy, conv, algorithm, at, size, beta, of_dx,
        dx,
    ):  # fmt: skip
        self._scratch(algorithm, at, size)
        out = np.zeros(self._objects[of_dx].dims)
        kernel = self._kernel(of_dx, of_w, conv, of_dy)
        kernel.backward_data(self._get(of_dy, dy), self._get(of_w, w), out)
        self._put(of_dx, dx, out, alpha, beta)

    def ConvolutionBackwardFilter(
        self, handle, alpha, of_x, x, of_dy, dy, conv, algorithm, at, size, beta, of_dw,
        dw,
    ):  # fmt: skip
        self._scratch(algorithm, at, size)
        out = np.zeros(self._objects[of_dw].dims)
        kernel = self._kernel(of_x, of_dw, conv, of_dy)
        kernel.backward_weights(
            self._get(of_x, x), self._get(of_dy, dy), out, None, accumulate=False
        )
        self._put(of_dw, dw, out, alpha, beta)

    # -- pooling and normalisation ---------------------------------------------------
    def _pool(self, pool, of_x, of_y):
        pool, x, y = (self._objects[each] for each in (pool, of_x, of_y))
        method = {1: "ave", 3: "max"}[pool.mode]
        return ReferencePool(
            PoolGeometry(x.dims, y.dims, pool.window, pool.stride, pool.pad, method)
        )

    def PoolingForward(self, handle, pool, alpha, of_x, x, beta, of_y, y):
        out = np.zeros(self._objects[of_y].dims)
        self._pool(pool, of_x, of_y).forward(self._get(of_x, x), out)
        self._put(of_y, y, out, alpha, beta)

    def PoolingBackward(
        self, handle, pool, alpha, of_y, y, of_dy, dy, of_x, x, beta, of_dx, dx
    ):
        out = np.zeros(self._objects[of_dx].dims)
        self._pool(pool, of_dx, of_dy).backward(self._get(of_dy, dy), out)
        self._put(of_dx, dx, out, alpha, beta)

    def _lrn(self, lrn, dims):
        of = self._objects[lrn]
        return ReferenceLrn(LrnGeometry(dims, of.size, of.alpha, of.beta, of.k, True))

    def LRNCrossChannelForward(self, handle, lrn, mode, alpha, of_x, x, beta, of_y, y):
        out = np.zeros(self._objects[of_y].dims)
        self._lrn(lrn, out.shape).forward(self._get(of_x, x), out)
        self._put(of_y, y, out, alpha, beta)

    def LRNCrossChannelBackward(
        self, handle, lrn, mode, alpha, of_y, y, of_dy, dy, of_x, x, beta, of_dx, dx
    ):
        assert dy != dx
        x, out = self._get(of_x, x), np.zeros(self._objects[of_dx].dims)
        kernel = self._lrn(lrn, out.shape)
        kernel.forward(x, np.zeros_like(out))
        kernel.backward(x, self._get(of_y, y), self._get(of_dy, dy), out)
        self._put(of_dx, dx, out, alpha, beta)

    def BatchNormalizationForwardInference(
        self, handle, mode, alpha, beta, of_x, x, of_y, y, row, scale, shift, mean, var,
        eps,
    ):  # fmt: skip
        scale, shift, mean, var = (
            self._get(row, each) for each in (scale, shift, mean, var)
        )
        out = (self._get(of_x, x) - mean) / np.sqrt(var + eps) * scale + shift
        self._put(of_y, y, out, alpha, beta)

    def GetBatchNormalizationForwardTrainingExWorkspaceSize(
        self, handle, mode, ops, of_x, of_z, of_y, row, activation, out
    ):
        self._bn_mode(mode, of_x)
        out[0] = 512

    def GetBatchNormalizationBackwardExWorkspaceSize(
        self, handle, mode, ops, of_x, of_y, of_dy, of_dz, of_dx, row, activation, out
    ):
        out[0] = 768

    def GetBatchNormalizationTrainingExReserveSpaceSize(
        self, handle, mode, ops, activation, of_x, out
    ):
        out[0] = 64

    def _bn_mode(self, mode, of_x):
        of = self._objects[of_x]
        last = of.strides[1] == 1 and np.prod(of.dims[2:]) > 1
        assert mode == (2 if last else 1)

    def BatchNormalizationForwardTrainingEx(
        self, handle, mode, ops, alpha, beta, of_x, x, of_z, z, of_y, y, row, scale,
        shift, factor, running_mean, running_var, eps, saved_mean, saved_inverse,
        activation, at, size, reserve, reserve_size,
    ):  # fmt: skip
        assert (size, reserve_size) == (512, 64)
        assert x != y
        values = self._get(of_x, x)
        axes = (0, *range(2, values.ndim))
        mean, var = (f(values, axis=axes, keepdims=True) for f in (np.mean, np.var))
        count = values.size / values.shape[1]
        inverse = 1 / np.sqrt(var + eps)
        kind = np.float64 if values.dtype == self._objects[of_x].dtype else np.float32
        one, rest = np.array([1], kind), np.array([1 - factor], kind)
        for address, new in (
            (running_mean, mean), (running_var, var * count / (count - 1)),
        ):  # fmt: skip
            view = self._view(row, address)
            view[...] = new * factor + rest[0] * view
        for address, new in ((saved_mean, mean), (saved_inverse, inverse)):
            self._view(row, address)[...] = new * one[0]
        scale, shift = self._get(row, scale), self._get(row, shift)
        self._put(of_y, y, (values - mean) * inverse * scale + shift, alpha, beta)
        memory(reserve, np.uint8, (64,), (1,))[...] = 5

    def BatchNormalizationBackwardEx(
        self, handle, mode, ops, alpha, beta, alpha_p, beta_p, of_x, x, of_y, y, of_dy,
        dy, of_dz, dz, of_dx, dx, row, scale, shift, dscale, dshift, eps, saved_mean,
        saved_inverse, activation, at, size, reserve, reserve_size,
    ):  # fmt: skip
        assert (size, reserve_size) == (768, 64)
        assert (memory(reserve, np.uint8, (64,), (1,)) == 5).all()
        assert dy != dx
        x, dy = self._get(of_x, x), self._get(of_dy, dy)
        axes = (0, *range(2, x.ndim))
        inverse = self._get(row, saved_inverse)
        normed = (x - self._get(row, saved_mean)) * inverse
        of_scale = (dy * normed).sum(axes, keepdims=True)
        of_shift = dy.sum(axes, keepdims=True)
        self._view(row, dscale)[...] = of_scale * alpha_p[0]
        self._view(row, dshift)[...] = of_shift * alpha_p[0]
        count = x.size / x.shape[1]
        out = dy - (normed * of_scale + of_shift) / count
        self._put(of_dx, dx, out * inverse * self._get(row, scale), alpha, beta)

    # -- softmax and activations -----------------------------------------------------
    def SoftmaxForward(self, handle, algorithm, mode, alpha, of_x, x, beta, of_y, y):
        assert (algorithm, mode) == (1, 1)
        values = self._get(of_x, x)
        powers = np.exp(values - values.max(1, keepdims=True))
        self._put(of_y, y, powers / powers.sum(1, keepdims=True), alpha, beta)

    def SoftmaxBackward(
        self, handle, algorithm, mode, alpha, of_y, y, of_dy, dy, beta, of_dx, dx
    ):
        y, dy = self._get(of_y, y), self._get(of_dy, dy)
        out = y * (dy - (y * dy).sum(1, keepdims=True))
        self._put(of_dx, dx, out, alpha, beta)

    def ActivationForward(self, handle, activation, alpha, of_x, x, beta, of_y, y):
        of, x = self._objects[activation], self._get(of_x, x)
        functions = {
            0: lambda: 1 / (1 + np.exp(-x)),
            1: lambda: np.maximum(x, 0),
            2: lambda: np.tanh(x),
            4: lambda: np.where(x > 0, x, of.coef * np.expm1(x)),
        }
        self._put(of_y, y, functions[of.mode](), alpha, beta)

    def ActivationBackward(
        self, handle, activation, alpha, of_y, y, of_dy, dy, of_x, x, beta, of_dx, dx
    ):
        of = self._objects[activation]
        x, y, dy = self._get(of_x, x), self._get(of_y, y), self._get(of_dy, dy)
        slopes = {
            0: lambda: y * (1 - y),
            1: lambda: x > 0,
            2: lambda: 1 - y * y,
            4: lambda: np.where(x > 0, 1, y + of.coef),
        }
        self._put(of_dx, dx, dy * slopes[of.mode](), alpha, beta)


class HostKit:
    """Arrays of the stand-in's device."""

    def put(self, values, dtype, channels_last):
        """A device array with these values; channels-last only from 3 axes on."""
        array = StandInDevice().empty(
            values.shape, dtype, channels_last=channels_last and values.ndim > 2
        )
        host_view(array)[...] = narrowed(values, np.dtype(dtype))
        return array

    def get(self, array):
        """The values in float64."""
        return widened(host_view(array))
