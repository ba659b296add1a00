"""cuDNN's interfaces beside Poseidon's kernels, an operation at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.gpu.timing import device_ms, tensor
from poseidon_caffe.backend.geometry import (
    BatchNormGeometry,
    ConvGeometry,
    LrnGeometry,
    PoolGeometry,
)
from poseidon_caffe.backend.gpu.device import BFLOAT16
from poseidon_caffe.errors import BackendError

__all__ = ["convolutions", "cudnn_handle", "line", "others"]

Row = dict[str, Any]
_Work = Callable[[], None]

# (channels, side, outputs, kernel, stride, pad, groups): where the nets' time goes.
_SHAPES = (
    (64, 56, 64, 3, 1, 1, 1),  # ResNet-50
    (256, 56, 64, 1, 1, 0, 1),
    (512, 28, 256, 1, 2, 0, 1),
    (256, 14, 256, 3, 1, 1, 1),
    (512, 7, 2048, 1, 1, 0, 1),
    (3, 224, 64, 7, 2, 3, 1),
    (64, 224, 64, 3, 1, 1, 1),  # VGG16
    (512, 28, 512, 3, 1, 1, 1),
    (192, 28, 64, 1, 1, 0, 1),  # GoogLeNet
    (32, 14, 128, 5, 1, 2, 1),
    (3, 227, 96, 11, 4, 0, 1),  # AlexNet
    (96, 27, 256, 5, 1, 2, 2),
    (128, 28, 128, 3, 1, 1, 128),  # MobileNet
)


def cudnn_handle(ops: Any, *, tf32: bool) -> Any:
    """cuDNN on the backend's device; None where there is none."""
    if ops.settings.emulated:
        return None
    from poseidon_caffe.backend.gpu.cudnn.handle import Handle
    from poseidon_caffe.backend.gpu.cudnn.library import open_library
    from poseidon_caffe.backend.gpu.cudnn.settings import CudnnSettings, cache_folder
    from poseidon_caffe.backend.gpu.cudnn.side import OpsSide

    try:
        library = open_library()
    except BackendError:
        return None
    settings = CudnnSettings(tf32=tf32, cache=cache_folder())
    return Handle(library, OpsSide(ops, ops.device), settings)


def _timed(ops: Any, work: dict[str, _Work]) -> Row:
    """Milliseconds of each, or why there are none."""
    found: Row = {}
    for name, each in work.items():
        try:
            found[name] = device_ms(ops, each)
        except Exception as error:  # noqa: BLE001 - the others go on
            found[name] = f"{type(error).__name__}: {error}"[:120]
    return found


def convolutions(ops: Any, handle: Any, *, tf32: bool, tiny: bool) -> Iterator[Row]:
    """The three products of each shape: own kernels, legacy and graph interface."""
    kinds: dict[str, Callable[[ConvGeometry], Any]] = {"own": ops.plain_convolution}
    if handle is not None:
        from poseidon_caffe.backend.gpu.cudnn.convolution import (
            CudnnConvolution,
            CudnnGraphConvolution,
        )

        for name, kind in (
            ("legacy", CudnnConvolution), ("graph", CudnnGraphConvolution)
        ):  # fmt: skip
            kinds[name] = lambda g, kind=kind: kind(g, handle, ops.plain_convolution(g))
    batch, largest = (1, 28) if tiny else (64, 1000)
    for channels, size, outputs, kernel, stride, pad, group in _SHAPES:
        side = min(size, largest)
        geometry = ConvGeometry(
            (batch, channels, side, side), outputs, (kernel, kernel), (stride, stride),
            (pad, pad), (1, 1), group,
        )  # fmt: skip
        for dtype in (np.dtype(np.float32),) if tf32 else (np.float32, BFLOAT16):
            storage = "bf16" if dtype == BFLOAT16 else "tf32" if tf32 else "fp32"
            made = {name: make(geometry) for name, make in kinds.items()}
            yield from _products(ops, geometry, dtype, storage, made)


def _products(
    ops: Any, g: ConvGeometry, dtype: Any, storage: str, kernels: dict[str, Any]
) -> Iterator[Row]:
    x, y = (tensor(ops, shape, dtype) for shape in (g.x_shape, g.y_shape))
    w, dw = (tensor(ops, g.w_shape, np.float32, last=False) for _ in range(2))
    b, db = (tensor(ops, (g.num_output,), np.float32) for _ in range(2))
    work: dict[str, Callable[[Any], _Work]] = {
        "forward": lambda k: lambda: k.forward(x, w, b, y, 1),
        "data": lambda k: lambda: k.backward_data(y, w, x, 1),
        "weights": lambda k: lambda: k.backward_weights(x, y, dw, db, accumulate=False),
    }
    c, side, kernel = g.x_shape[1], g.x_shape[2], g.kernel[0]
    name = f"{c}x{side}x{side} to {g.num_output}, {kernel}x{kernel}/{g.stride[0]}"
    if g.group > 1:
        name += f", {g.group} groups"
    for what, of in work.items():
        times = _timed(ops, {each: of(kernel) for each, kernel in kernels.items()})
        yield {"what": f"{name}, {storage}, {what}", "ms": times}


def others(ops: Any, handle: Any, *, tiny: bool) -> Iterator[Row]:
    """Pooling, LRN, batch normalisation, softmax: own kernels, and cuDNN's."""
    shape = (2, 8, 8, 8) if tiny else (64, 64, 112, 112)
    half = (shape[0], shape[1], shape[2] // 2, shape[3] // 2)
    for dtype in (np.dtype(np.float32), BFLOAT16):
        storage = "bf16" if dtype == BFLOAT16 else "fp32"
        x, dx = (tensor(ops, shape, dtype) for _ in range(2))
        z, dz = (tensor(ops, shape, dtype) for _ in range(2))
        y = tensor(ops, half, dtype)
        rows = [tensor(ops, (shape[1],), np.float32) for _ in range(6)]
        for method in ("max", "ave"):
            pool = PoolGeometry(shape, half, (2, 2), (2, 2), (0, 0), method)
            kinds = _kinds(handle, "pooling", pool, ops.pooling(pool))
            forward = {n: _call(k.forward, x, y) for n, k in kinds.items()}
            yield _row(ops, f"{method} pooling, {storage}, forward", forward)
            back = {n: _call(k.backward, y, dx) for n, k in kinds.items()}
            yield _row(ops, f"{method} pooling, {storage}, backward", back)
        lrn = LrnGeometry(shape, 5, 1e-4, 0.75, 1.0, True)
        kinds = _kinds(handle, "lrn", lrn, ops.lrn(lrn))
        forward = {n: _call(k.forward, x, z) for n, k in kinds.items()}
        yield _row(ops, f"LRN, {storage}, forward", forward)
        back = {n: _call(k.backward, x, z, dz, dx) for n, k in kinds.items()}
        yield _row(ops, f"LRN, {storage}, backward", back)
        norm = BatchNormGeometry(shape, 1e-5, use_stored=False, affine=True)
        kinds = _kinds(handle, "batch_norm", norm, ops.batch_norm(norm))
        forward = {n: _call(k.forward, x, z, *rows[:4]) for n, k in kinds.items()}
        yield _row(ops, f"batch norm, {storage}, forward", forward)
        back = {
            n: _call(k.backward, x, dz, dx, *rows[:3], *rows[4:])
            for n, k in kinds.items()
        }
        yield _row(ops, f"batch norm, {storage}, backward", back)
        yield from _softmax(ops, handle, dtype, storage, tiny=tiny)


def _softmax(
    ops: Any, handle: Any, dtype: Any, storage: str, *, tiny: bool
) -> Iterator[Row]:
    x, y, dx = (tensor(ops, (2 if tiny else 4096, 1000), dtype) for _ in range(3))
    forward = {"own": _call(ops.softmax, x, 1, y)}
    back = {"own": _call(ops.softmax_backward, y, x, 1, dx)}
    if handle is not None:
        from poseidon_caffe.backend.gpu.cudnn.pointwise import CudnnSoftmax

        kernel = CudnnSoftmax(handle)
        forward["cudnn"] = _call(kernel.forward, x, y)
        back["cudnn"] = _call(kernel.backward, y, x, dx)
    yield _row(ops, f"softmax, {storage}, forward", forward)
    yield _row(ops, f"softmax, {storage}, backward", back)


def _call(function: Callable[..., None], *arguments: Any) -> _Work:
    return lambda: function(*arguments)


def _row(ops: Any, what: str, work: dict[str, _Work]) -> Row:
    return {"what": what, "ms": _timed(ops, work)}


def _kinds(handle: Any, family: str, geometry: Any, own: Any) -> dict[str, Any]:
    """The own kernel, and cuDNN's with that behind it where it computes the same."""
    kinds = {"own": own}
    if handle is None:
        return kinds
    from poseidon_caffe.backend.gpu.cudnn import batch_norm, lrn, pooling

    twins: dict[str, tuple[Any, Any]] = {
        "pooling": (pooling.supports, pooling.CudnnPooling),
        "lrn": (lrn.supports, lrn.CudnnLrn),
        "batch_norm": (batch_norm.supports, batch_norm.CudnnBatchNorm),
    }
    supports, make = twins[family]
    if supports(geometry):
        kinds["cudnn"] = make(geometry, handle, own)
    return kinds


def line(row: Row) -> str:
    """A row of the table."""
    cells = [
        f"{name} {ms:.4f}" if isinstance(ms, float) else f"{name}: {ms}"
        for name, ms in row["ms"].items()
    ]
    return f"| {row['what']} | " + " | ".join(cells) + " |\n"
