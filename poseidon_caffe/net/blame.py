"""Which layer to name when memory for a whole net is not enough."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from poseidon_caffe.net.building import out_of_memory

if TYPE_CHECKING:
    from poseidon_caffe.net.net import Net

__all__ = ["blaming_parameters", "blaming_tops"]


@contextmanager
def blaming_tops(net: Net) -> Iterator[None]:
    """Where the activations of all layers are placed: name the one with the most.

    Raises:
        LayerError: instead of a MemoryError.
    """
    with _blaming(net, lambda i: sum(blob.count for blob in net.top_blobs[i])):
        yield


@contextmanager
def blaming_parameters(net: Net) -> Iterator[None]:
    """Where all parameters or their history are: name the layer with the most.

    Raises:
        LayerError: instead of a MemoryError.
    """
    with _blaming(net, lambda i: sum(blob.count for blob in net.layers[i].blobs)):
        yield


@contextmanager
def _blaming(net: Net, size: Callable[[int], int]) -> Iterator[None]:
    try:
        yield
    except MemoryError as error:
        most = max(range(len(net.layers)), key=size)
        blobs = net.bottom_blobs[most] or net.top_blobs[most]
        raise out_of_memory(net.layers[most], blobs, error, net) from error
