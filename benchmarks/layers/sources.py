"""Files for the layers that read some: 128 images, as LMDB, JPEG, HDF5 and windows."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

import numpy as np

__all__ = ["with_sources"]

_COUNT, _SIDE = 128, 256


def with_sources(text: str) -> str:
    """``text`` with @LMDB, @LIST, @HDF5, @WINDOWS and @OUT replaced by paths."""
    for mark, make in _MAKERS.items():
        if mark in text:
            text = text.replace(mark, str(make()))
    return text


@functools.cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="poseidon-bench-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@functools.cache
def _images() -> np.ndarray:
    """Smooth colours with noise, so that JPEG has what photographs have."""
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 200, (_COUNT, 3, 16, 16), np.uint8)
    step = _SIDE // 16
    large = coarse.repeat(step, 2).repeat(step, 3)
    return large + rng.integers(0, 40, large.shape, np.uint8)


@functools.cache
def _lmdb() -> Path:
    from poseidon_caffe.data.datum import array_to_datum
    from poseidon_caffe.data.db import create_db

    with create_db(str(_folder() / "lmdb")) as writer:
        for i, image in enumerate(_images()):
            datum = array_to_datum(image, i % 10)
            writer.put(b"%08d" % i, datum.SerializeToString())
    return _folder() / "lmdb"


@functools.cache
def _jpegs() -> list[Path]:
    from poseidon_caffe.data.image import encode_image

    paths = []
    for i, image in enumerate(_images()):
        paths.append(_folder() / f"{i}.jpg")
        paths[-1].write_bytes(encode_image(image, "jpg"))
    return paths


@functools.cache
def _list() -> Path:
    listed = _folder() / "list.txt"
    listed.write_text("".join(f"{p} {i % 10}\n" for i, p in enumerate(_jpegs())))
    return listed


@functools.cache
def _windows() -> Path:
    blocks = []
    for i, path in enumerate(_jpegs()):
        boxes = f"{i % 9 + 1} 0.75 20 10 190 180\n0 0.125 0 0 150 170\n"
        blocks.append(f"# {i}\n{path}\n3\n{_SIDE}\n{_SIDE}\n2\n{boxes}")
    listed = _folder() / "windows.txt"
    listed.write_text("".join(blocks))
    return listed


@functools.cache
def _hdf5() -> Path:
    import h5py

    path = _folder() / "rows.h5"
    with h5py.File(path, "w") as file:
        file["t0"] = np.zeros((4096, 1024), np.float32)
        file["t1"] = np.zeros(4096, np.float32)
    listed = _folder() / "h5.txt"
    listed.write_text(f"{path}\n")
    return listed


def _out() -> Path:
    return _folder() / "out.h5"


_MAKERS = {
    "@LMDB": _lmdb,
    "@LIST": _list,
    "@HDF5": _hdf5,
    "@WINDOWS": _windows,
    "@OUT": _out,
}
