"""Running more samples through a net than fit into one of its batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from poseidon_caffe.errors import ShapeError, UsageError
from poseidon_caffe.types import Array

if TYPE_CHECKING:
    from poseidon_caffe.caffe.net import Net

__all__ = ["run", "split"]


def split(arrays: dict[str, Array], size: int) -> Iterator[dict[str, Array]]:
    """Cut arrays of one length into batches of ``size`` rows, zeros padding the last.

    Args:
        arrays: by name; axis 0 counts samples.
        size: rows per batch.
    """
    total = len(next(iter(arrays.values())))
    for start in range(0, total, size):
        batch = {}
        for name, array in arrays.items():
            part = array[start : start + size]
            if len(part) < size:
                rest = np.zeros((size - len(part), *part.shape[1:]), part.dtype)
                part = np.concatenate([part, rest])
            batch[name] = part
        yield batch


class _Rows:
    """Collects what each batch gives for some blobs."""

    def __init__(self, net: Net, size: int, total: int) -> None:
        self._net, self._size, self._total = net, size, total
        self._parts: dict[str, list[Array]] = {}

    def add(self, arrays: dict[str, Array]) -> None:
        for name, array in arrays.items():
            self._parts.setdefault(name, []).append(np.array(array, order="C"))

    def joined(self) -> dict[str, Array]:
        return {name: self._join(parts) for name, parts in self._parts.items()}

    def _join(self, parts: list[Array]) -> Array:
        if parts[0].shape[:1] != (self._size,):
            return np.stack(parts)  # no batch axis: a loss, say
        return np.concatenate(parts)[: self._total]


def run(
    net: Net,
    blobs: Sequence[str] | None,
    diffs: Sequence[str] | None,
    arrays: dict[str, Any],
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Run all samples of ``arrays`` forward, and backward unless ``diffs`` is None.

    Args:
        net: what to run.
        blobs: names of further blobs to collect.
        diffs: names of further gradients to collect; None runs no backward.
        arrays: every input by name; output gradients too when running backward.

    Returns:
        Collected data and gradients, padding removed.

    Raises:
        UsageError: inputs are missing.
        ShapeError: the arrays differ in length.
    """
    inputs = {name: np.asarray(arrays[name]) for name in net.inputs if name in arrays}
    tops = {k: np.asarray(v) for k, v in arrays.items() if k not in inputs}
    if len(inputs) != len(net.inputs) or not inputs or (tops and diffs is None):
        msg = f"the net's inputs are {net.inputs}, received {sorted(arrays)}"
        raise UsageError(msg)
    lengths = {name: len(array) for name, array in {**inputs, **tops}.items()}
    if len(set(lengths.values())) > 1:
        msg = f"inputs must have the same number of samples, not {lengths}"
        raise ShapeError(msg)
    size = net.blobs[net.inputs[0]].shape[0]
    total = next(iter(lengths.values()))
    outs, gradients = _Rows(net, size, total), _Rows(net, size, total)
    for batch in split({**inputs, **tops}, size):
        fed: dict[str, Any] = {name: batch[name] for name in inputs}
        outs.add(net.forward(blobs=blobs, **fed))
        if diffs is not None:
            given: dict[str, Any] = {name: batch[name] for name in tops}
            gradients.add(net.backward(diffs=diffs, **given))
    return outs.joined(), gradients.joined()
