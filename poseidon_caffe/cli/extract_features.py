"""``poseidon extract_features``: blobs of a net to databases of Datums."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from poseidon_caffe.cli.flags import Arguments, Command, Positional
from poseidon_caffe.cli.gpu_flags import NUMERIC_FLAGS
from poseidon_caffe.cli.threads import THREADS, prepare
from poseidon_caffe.errors import UsageError
from poseidon_caffe.report.glog import Glog

if TYPE_CHECKING:
    from poseidon_caffe.backend.gpu.settings import GpuSettings

__all__ = ["COMMAND", "run"]

_TAG: Final = "extract_features.cpp:1"
_BACKENDS: Final = ("lmdb", "leveldb")


def run(args: Arguments, log: Glog) -> int:
    """Check the words, then extract.

    Raises:
        UsageError: words that make no sense.
    """
    blobs, datasets = args.word(2).split(","), args.word(3).split(",")
    if len(blobs) != len(datasets):
        raise UsageError(
            f"{len(blobs)} blob names for {len(datasets)} dataset names; "
            "the numbers must be equal"
        )
    if len(set(datasets)) < len(datasets) or not all(blobs) or not all(datasets):
        raise UsageError(
            f"'{args.word(3)}': each blob needs a dataset name of its own, and names "
            "are separated by one comma, without blanks"
        )
    if not args.word(4).isdecimal() or not int(args.word(4)):
        raise UsageError(
            f"num_mini_batches: expected 1 or more, received '{args.word(4)}'"
        )
    if args.word(5) not in _BACKENDS:
        known = " or ".join(_BACKENDS)
        raise UsageError(f"db_type: expected {known}, received '{args.word(5)}'")
    device = _device(args)
    threads = prepare(args.integer("threads"))
    # NumPy and its thread pools load here, after the environment is set.
    from poseidon_caffe.cli.features import FeatureSettings, extract

    settings = FeatureSettings(
        weights=args.word(0),
        model=args.word(1),
        features=tuple(zip(blobs, datasets, strict=True)),
        batches=int(args.word(4)),
        backend=args.word(5),
    )
    extract(settings, log, threads, _gpu(args, device, log))
    return 0


def _device(args: Arguments) -> int | None:
    """The number after the word GPU; any other word means the CPU, as in Caffe."""
    if args.word(6) != "GPU":
        return None
    text = args.word(7, "0")
    if not text.isascii() or not text.isdigit():
        raise UsageError(f"DEVICE_ID: expected 0 or more, received '{text}'")
    return int(text)


def _gpu(args: Arguments, device: int | None, log: Glog) -> GpuSettings | None:
    """How the GPU is to compute; None for the CPU."""
    if device is None:
        return None
    from poseidon_caffe.cli.gpus import gpu_settings

    settings = gpu_settings(args, device)
    # Caffe says these at level ERROR, so that they are seen.
    log.error(_TAG, "Using GPU")
    log.error(_TAG, f"Using Device_id={device}")
    return settings


COMMAND = Command(
    name="extract_features",
    summary="write blobs of a net, such as features, into databases",
    run=run,
    flags=(THREADS, *NUMERIC_FLAGS),
    positionals=(
        Positional("pretrained_net_param", "trained weights, a .caffemodel"),
        Positional("feature_extraction_proto_file", "the net, with a data layer"),
        Positional("extract_feature_blob_name1[,name2,...]", "blobs to write"),
        Positional("save_feature_dataset_name1[,name2,...]", "a database for each"),
        Positional("num_mini_batches", "how many forward passes to make"),
        Positional("db_type", "lmdb or leveldb"),
        Positional("CPU/GPU", "where to compute; by default the CPU", optional=True),
        Positional("DEVICE_ID=0", "of the GPU", optional=True),
    ),
    description=(
        "The net runs in phase TEST. Each row of a batch becomes a Datum with "
        "float_data and the channels, height and width of the blob; keys are "
        "0000000000 and so on. Each database appears whole or not at all."
    ),
    examples=(
        "poseidon extract_features n.caffemodel n.prototxt fc7,fc8 db7,db8 10 lmdb",
    ),
)
