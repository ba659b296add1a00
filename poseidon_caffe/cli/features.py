"""The work of ``poseidon extract_features``."""

from __future__ import annotations

import difflib
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

import numpy as np

from poseidon_caffe.backend.gpu.settings import GpuSettings
from poseidon_caffe.cli.models import open_ops
from poseidon_caffe.data.db import DatabaseWriter, create_db
from poseidon_caffe.errors import ShapeError, UsageError
from poseidon_caffe.net.net import Net, NetOptions
from poseidon_caffe.report import tags
from poseidon_caffe.report.glog import Glog
from poseidon_caffe.report.net_lines import log_net
from poseidon_caffe.schema import messages
from poseidon_caffe.schema.upgrade import read_net
from poseidon_caffe.types import Array, Phase, Shape

__all__ = ["FeatureSettings", "extract"]

_TAG: Final = "extract_features.cpp:1"
_REPORT_EVERY: Final = 1000
_LEGACY_AXES: Final = 4


@dataclass(frozen=True)
class FeatureSettings:
    """What to extract.

    Attributes:
        weights: trained weights, or several files separated by commas.
        model: the net's prototxt.
        features: (blob, database to make) pairs.
        batches: forward passes.
        backend: of the databases.
    """

    weights: str
    model: str
    features: tuple[tuple[str, str], ...]
    batches: int
    backend: str


def extract(
    settings: FeatureSettings, log: Glog, threads: int, gpu: GpuSettings | None = None
) -> list[int]:
    """Run the net and write its blobs, row by row; how many rows each blob gave.

    Args:
        settings: what to extract.
        log: gets Caffe's lines.
        threads: that compute.
        gpu: the GPU that computes; None for the CPU.

    Raises:
        UsageError: the net has no such blob.
        ShapeError: a blob with more than four axes.
        PoseidonError: the net, its weights or its data are wrong, or a database exists.
    """
    net = Net(
        read_net(settings.model),
        ops=open_ops(log, threads, gpu),
        phase=Phase.TEST,
        # Inner blobs are looked at, so each keeps memory of its own.
        options=NetOptions(fuse=False, share_memory=False, forward_only=True),
        path=settings.model,
    )
    try:
        log_net(log, net)
        for path in settings.weights.split(","):
            for name in net.copy_trained_from(path):
                log.info(tags.IGNORED_LAYER, f"Ignoring source layer {name}")
        for blob, _ in settings.features:
            _check_blob(net, blob, settings.model)
        return _write(net, settings, log)
    finally:
        net.close()


def _check_blob(net: Net, name: str, model: str) -> None:
    if name not in net.blobs:
        near = difflib.get_close_matches(name, net.blobs, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise UsageError(
            f"unknown feature blob name '{name}' in the network {model}{hint} "
            f"(blobs: {', '.join(net.blobs)})"
        )
    _legacy_shape(name, net.blobs[name].shape)


def _legacy_shape(name: str, shape: Shape) -> Shape:
    """The shape as num, channels, height and width."""
    if len(shape) > _LEGACY_AXES:
        raise ShapeError(
            f"blob '{name}' has the shape {shape}; a Datum has three axes, so a blob "
            "may have four at most: flatten it first"
        )
    return (*shape, *(1,) * (_LEGACY_AXES - len(shape)))


def _write(net: Net, settings: FeatureSettings, log: Glog) -> list[int]:
    counts = [0] * len(settings.features)
    with ExitStack() as stack:
        writers: list[DatabaseWriter] = []
        for _, dataset in settings.features:
            log.info(_TAG, f"Opening dataset {dataset}")
            writer = create_db(dataset, settings.backend)
            writers.append(stack.enter_context(writer))
        log.error(_TAG, "Extracting Features")
        for _ in range(settings.batches):
            net.forward()
            for i, (name, _) in enumerate(settings.features):
                values = net.blobs[name].cpu_data
                rows = values.reshape(_legacy_shape(name, values.shape))
                for row in rows:
                    writers[i].put(b"%010d" % counts[i], _record(row))
                    counts[i] += 1
                    if counts[i] % _REPORT_EVERY == 0:
                        _report(log, counts[i], name)
    for count, (name, _) in zip(counts, settings.features, strict=True):
        _report(log, count, name)
    log.error(_TAG, "Successfully extracted the features!")
    return counts


def _record(row: Array) -> bytes:
    """A serialized Datum of one row (C, H, W); no label and no encoding, as Caffe's."""
    channels, height, width = row.shape
    datum = messages.Datum(channels=channels, height=height, width=width)
    datum.float_data.extend(np.ravel(row).tolist())
    raw: bytes = datum.SerializeToString()
    return raw


def _report(log: Glog, count: int, name: str) -> None:
    # Caffe says these at level ERROR, so that they are seen.
    text = f"Extracted features of {count} query images for feature blob {name}"
    log.error(_TAG, text)
