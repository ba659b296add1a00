"""Flags of the commands that run a net on images, and what they say."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

from poseidon_caffe.cli.flags import Arguments, Flag
from poseidon_caffe.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from poseidon_caffe.caffe import Classifier, Detector
    from poseidon_caffe.cli.logged_notes import LoggedNotes
    from poseidon_caffe.types import Array

__all__ = [
    "IMAGE_FLAGS",
    "given_number",
    "load_array",
    "mean_of",
    "mode_of",
    "set_channel_swap",
]

_MODEL: Final = "models/bvlc_reference_caffenet"

IMAGE_FLAGS: Final = (
    Flag(
        "model_def",
        f"{_MODEL}/deploy.prototxt",
        "the net's prototxt for deployment",
        value="FILE",
    ),
    Flag(
        "pretrained_model",
        f"{_MODEL}/bvlc_reference_caffenet.caffemodel",
        "the trained weights",
        value="FILE",
    ),
    Flag("gpu", False, "compute on the first GPU"),
    Flag(
        "mean_file",
        "python/caffe/imagenet/ilsvrc_2012_mean.npy",
        "mean image (channels, height, width) to subtract, .npy or .binaryproto; "
        "--mean_file= for none",
        value="FILE",
    ),
    Flag("input_scale", 1.0, "multiply by this last of all", value="FACTOR"),
    Flag(
        "raw_scale",
        255.0,
        "multiply images, which are 0 to 1, by this before the mean is subtracted",
        value="FACTOR",
    ),
    Flag(
        "channel_swap",
        "2,1,0",
        "order of the channels; by default red, green, blue become blue, green, red "
        "(nothing, where the net takes no three channels)",
        value="C,C,C",
    ),
)
"""Their defaults are files of Caffe's tree, looked for from where one is."""


@contextlib.contextmanager
def mode_of(args: Arguments, notes: LoggedNotes) -> Iterator[None]:
    """Nets opened inside compute where ``--gpu`` says, and a note tells it.

    Raises:
        GpuError: there is no GPU that can be used.
    """
    if not args.boolean("gpu"):
        hint = "; --gpu takes no number, and alone means the first GPU"
        notes.info("CPU mode" + (hint if "gpu" in args.given else ""))
        yield
        return
    from poseidon_caffe.backend.gpu.inventory import check_gpu
    from poseidon_caffe.caffe.state import use_backend

    check_gpu(0)
    notes.info("GPU mode")
    with use_backend("gpu"):
        yield


def given_number(args: Arguments, name: str) -> float | None:
    """The value of a number's flag, None unless it was written."""
    return args.number(name) if name in args.given else None


def set_channel_swap(net: Classifier | Detector, args: Arguments) -> None:
    """Give the order of channels to the net's transformer.

    Raises:
        PoseidonError: no numbers, or not one a channel.
    """
    name = net.inputs[0]
    if "channel_swap" not in args.given and net.blobs[name].shape[1] != 3:
        return
    try:
        order = [int(item) for item in args.items("channel_swap")]
    except ValueError as error:
        given = args.text("channel_swap")
        msg = f"--channel_swap: expected numbers such as 2,1,0, received '{given}'"
        raise UsageError(msg) from error
    if order:
        net.transformer.set_channel_swap(name, order)


def mean_of(args: Arguments) -> Array | None:
    """The mean image, float32 or float64 (K, H, W), or None.

    Raises:
        PoseidonError: it cannot be read.
    """
    path = args.text("mean_file")
    if not path:
        return None
    if not Path(path).is_file():
        raise UsageError(
            f"--mean_file={path}: no such file; give your data's own mean "
            "(poseidon compute_image_mean), or --mean_file= for none"
        )
    if path.endswith(".binaryproto"):
        from poseidon_caffe.schema.mean import read_mean

        return read_mean(path)
    return load_array(path)


def load_array(path: str) -> Array:
    """The array in a .npy file.

    Raises:
        DataError: missing, damaged, or Python objects.
    """
    import numpy as np

    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, MemoryError) as error:
        raise DataError(f"{path}: cannot be read as a .npy file: {error}") from error
    if not isinstance(array, np.ndarray):
        array.close()  # several arrays in a .npz
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
        raise DataError(f"{path}: expected one array of numbers, as in a .npy file")
    return array
