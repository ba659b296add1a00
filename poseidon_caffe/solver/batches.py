"""How many records nets read: dividing a batch, counting records."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from poseidon_caffe.errors import SolverError
from poseidon_caffe.net.net import Net

__all__ = ["divide_batches", "effective_batch", "record_counts"]


def divide_batches(param: Any, workers: int) -> None:
    """Give each of ``workers`` its part of every data layer's batch.

    Args:
        param: a NetParameter, filtered to the layers that will be built; changed in
            place: every ``batch_size``, and the first axis of Input's and DummyData's
            shapes.
        workers: that share one batch.

    Raises:
        SolverError: a batch cannot be divided; it names the layer.
    """
    for layer in param.layer:
        for batch, replace in _batches(layer):
            if batch % workers:
                msg = (
                    f'layer "{layer.name}" ({layer.type}): its batch of {batch} cannot '
                    f"be divided by {workers} workers (--scaling strong); make it a "
                    f"multiple of {workers}, or use --scaling weak, where batch_size "
                    "is each worker's"
                )
                raise SolverError(msg)
            replace(batch // workers)


def _batches(layer: Any) -> Iterator[tuple[int, Callable[[int], None]]]:
    """Each batch that a layer's settings name, and what puts another in its place."""
    for field, value in layer.ListFields():
        message = field.message_type
        if message is None or not hasattr(value, "ListFields"):
            continue
        if "batch_size" in message.fields_by_name and value.batch_size:
            yield value.batch_size, partial(setattr, value, "batch_size")
    shapes: list[Any] = []
    if layer.type == "DummyData":
        dummy = layer.dummy_data_param
        shapes.extend(dummy.shape)
        for i, batch in enumerate(dummy.num):
            yield batch, partial(dummy.num.__setitem__, i)
    elif layer.type == "Input":
        shapes.extend(layer.input_param.shape)
    for shape in shapes:
        if shape.dim:
            yield shape.dim[0], partial(shape.dim.__setitem__, 0)


def effective_batch(net: Net, iter_size: int) -> int:
    """Records that one worker sees in an iteration; 0 without data layers.

    Args:
        net: the train net; the first axis of its first data blob counts.
        iter_size: passes of an iteration.
    """
    for bottoms, tops in zip(net.bottom_blobs, net.top_blobs, strict=True):
        if not bottoms and tops and tops[0].shape:
            return int(tops[0].shape[0]) * iter_size
    return 0


def record_counts(net: Net) -> dict[str, int]:
    """Records of an epoch for each data layer whose source all workers share."""
    counts = {layer.name: layer.record_count for layer in net.layers}
    return {name: count for name, count in counts.items() if count is not None}
