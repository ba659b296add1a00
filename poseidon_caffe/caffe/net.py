"""``caffe.Net``: a net opened from Python, as pycaffe's scripts know it."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from poseidon_caffe.caffe import batches
from poseidon_caffe.caffe.state import COMPUTE_LOCK, current_ops, next_seed
from poseidon_caffe.caffe.structure import NetStructure
from poseidon_caffe.errors import ShapeError, UsageError
from poseidon_caffe.layers.memory_data import MemoryData
from poseidon_caffe.net.net import Net as CoreNet
from poseidon_caffe.net.net import NetOptions
from poseidon_caffe.schema.upgrade import read_net
from poseidon_caffe.types import Array, Phase

__all__ = ["Net", "StrPath"]

StrPath = str | os.PathLike[str]


class Net(NetStructure):
    """A net built from a prototxt, with every blob alive and open to the script.

    ``Net(file, phase)``, ``Net(file, phase, level=, stages=, weights=)``, or the
    older ``Net(file, weights, phase)``.

    Args:
        network_file: the prototxt; old formats are upgraded in memory.
        phase: ``caffe.TRAIN`` or ``caffe.TEST`` (in the older form: the weights).
        level, stages: match the ``include``/``exclude`` rules (in the older form the
            third argument is the phase).
        weights: a .caffemodel, or its .h5 twin, to copy parameters from.

    Raises:
        PoseidonError: a RuntimeError, as pycaffe's: the file is missing or wrong.
    """

    def __init__(
        self,
        network_file: StrPath,
        phase: int | StrPath | None = None,
        level: int = 0,
        stages: Iterable[str] | None = None,
        weights: StrPath | None = None,
    ) -> None:
        if isinstance(phase, (str, os.PathLike)):
            weights, phase, level = phase, level, 0
        path = os.fspath(network_file)
        self._attach(
            CoreNet(
                read_net(path),
                ops=current_ops(),
                phase=_phase(phase, path),
                level=int(level),
                stages=tuple(stages or ()),
                seed=next_seed(),
                options=NetOptions(fuse=False, share_memory=False),
                path=path,
            )
        )
        if weights is not None:
            self.copy_from(weights)

    @classmethod
    def of(cls, core: CoreNet) -> Net:
        """The face of a net that exists already, such as a solver's."""
        net = cls.__new__(cls)
        net._attach(core)  # noqa: SLF001 - its own class
        return net

    # -- running it ------------------------------------------------------------------
    def forward(
        self,
        blobs: Sequence[str] | None = None,
        start: str | None = None,
        end: str | None = None,
        **inputs: Any,
    ) -> dict[str, Array]:
        """Run the net, or its layers from ``start`` to ``end`` inclusive.

        Args:
            blobs: names of further blobs to return.
            start: name of the first layer.
            end: name of the last layer.
            **inputs: arrays for all the input blobs, by name.

        Returns:
            Output blobs (the tops of ``end`` if given) and ``blobs``, as live views.

        Raises:
            UsageError: an unknown name, or ``inputs`` are not the net's inputs.
            ShapeError: an input's batch is not the net's.
        """
        first = 0 if start is None else self._index(start)
        last = len(self._layers) - 1 if end is None else self._index(end)
        wanted = self.outputs if end is None else self._core.top_names[last]
        names = self._checked([*wanted, *(blobs or ())])
        self._fill(inputs, self.inputs, "inputs", "data")
        self._forward(first, last)
        return {name: self.blobs[name].data for name in names}

    def backward(
        self,
        diffs: Sequence[str] | None = None,
        start: str | None = None,
        end: str | None = None,
        **tops: Any,
    ) -> dict[str, Array]:
        """Backpropagate, or only from layer ``start`` down to ``end`` inclusive.

        Args:
            diffs: names of further blobs whose gradient to return.
            start: name of the layer to begin at (the last by default).
            end: name of the layer to stop after (the first by default).
            **tops: gradients for all the output blobs, by name.

        Returns:
            Gradients of the inputs (the bottoms of ``end`` if given) and ``diffs``, as
            live views.

        Raises:
            UsageError: an unknown name, or ``tops`` are not the net's outputs.
            ShapeError: a gradient's batch is not the net's.
        """
        first = len(self._layers) - 1 if start is None else self._index(start)
        last = 0 if end is None else self._index(end)
        wanted = self.inputs if end is None else self._core.bottom_names[last]
        names = self._checked([*wanted, *(diffs or ())])
        self._fill(tops, self.outputs, "outputs", "diff")
        self._backward(first, last)
        return {name: self.blobs[name].diff for name in names}

    def forward_all(
        self, blobs: Sequence[str] | None = None, **inputs: Any
    ) -> dict[str, Array]:
        """Run any number of samples through the net, batch by batch.

        Returns:
            Outputs and ``blobs`` as arrays with one row a sample (blobs without a
            batch axis: one row a batch).
        """
        outs, _ = batches.run(self, blobs, None, inputs)
        return outs

    def forward_backward_all(
        self,
        blobs: Sequence[str] | None = None,
        diffs: Sequence[str] | None = None,
        **arrays: Any,
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """Run any number of samples forward and backward, batch by batch.

        Args:
            blobs: names of further blobs to return.
            diffs: names of further blobs whose gradient to return.
            **arrays: data of the inputs, and gradients of outputs, by name.

        Returns:
            (outputs and ``blobs``, gradients of inputs and ``diffs``).
        """
        return batches.run(self, blobs, diffs or (), arrays)

    def _forward(self, start: int, end: int) -> float:
        """Run layers ``start`` to ``end`` inclusive, by index; the loss."""
        with COMPUTE_LOCK:
            return self._core.forward(start, end)

    def _backward(self, start: int, end: int) -> None:
        """Run backward from layer ``start`` down to ``end`` inclusive, by index."""
        with COMPUTE_LOCK:
            self._core.backward(start, end)

    def _batch(self, blobs: dict[str, Array]) -> Iterator[dict[str, Array]]:
        """Cut arrays into batches of the net's first blob, zeros padding the last."""
        return batches.split(blobs, next(iter(self.blobs.values())).shape[0])

    def set_input_arrays(self, data: Array, labels: Array) -> None:
        """Let the MemoryData layer that begins the net read these arrays.

        Args:
            data: float32, C-contiguous, (samples, channels, height, width) with a
                multiple of the layer's batch size of samples; not copied.
            labels: float32, (samples,) or (samples, 1, 1, 1).

        Raises:
            PoseidonError: the net begins otherwise, or the arrays do not fit.
        """
        first = self._core.layers[0] if self._core.layers else None
        if not isinstance(first, MemoryData):
            found = f'"{first.name}" ({first.type})' if first else "missing"
            msg = "set_input_arrays needs a MemoryData layer as the net's first layer"
            raise UsageError(f"{msg}; it is {found}")
        values, targets = np.asarray(data), np.asarray(labels)
        if targets.ndim == 1:
            targets = np.ascontiguousarray(targets)
        first.reset(values, targets)

    def _set_input_arrays(self, data: Array, labels: Array) -> None:
        self.set_input_arrays(data, labels)

    def reshape(self) -> None:
        """Let all layers follow the inputs' present shapes, without computing."""
        with COMPUTE_LOCK:
            self._core.reshape()

    def clear_param_diffs(self) -> None:
        """Set the gradients of all parameters to zero."""
        self._core.clear_param_diffs()
        for blob in self._core.learnable:
            _ = blob.diff  # views that the script holds shall show the zeros too

    # -- callbacks -------------------------------------------------------------------
    def before_forward(self, callback: Callable[[int], object]) -> None:
        """Call ``callback(layer index)`` before each layer runs forward."""
        self._core.before_forward_hooks.append(_hook(callback))

    def after_forward(self, callback: Callable[[int], object]) -> None:
        """Call ``callback(layer index)`` after each layer has run forward."""
        self._core.after_forward_hooks.append(_hook(callback))

    def before_backward(self, callback: Callable[[int], object]) -> None:
        """Call ``callback(layer index)`` before each layer runs backward."""
        self._core.before_backward_hooks.append(_hook(callback))

    def after_backward(self, callback: Callable[[int], object]) -> None:
        """Call ``callback(layer index)`` after each layer has run backward."""
        self._core.after_backward_hooks.append(_hook(callback))

    # -- weights ---------------------------------------------------------------------
    def copy_from(self, weights: StrPath) -> None:
        """Copy parameters from a .caffemodel or .caffemodel.h5 by layer name.

        Raises:
            PoseidonError: the file is missing, or parameters do not fit (all that
                do not are named).
        """
        self._core.copy_trained_from(os.fspath(weights))

    def share_with(self, other: Net) -> None:
        """Use ``other``'s parameters, in memory, wherever layer names agree."""
        self._core.share_trained_layers_with(other._core)

    def save(self, path: StrPath) -> None:
        """Write the net with its parameters as a .caffemodel."""
        self._core.save(os.fspath(path))

    def save_hdf5(self, path: StrPath) -> None:
        """Write the parameters as a .caffemodel.h5."""
        self._core.save_hdf5(os.fspath(path))

    def load_hdf5(self, path: StrPath) -> None:
        """Copy parameters from a .caffemodel.h5 by layer name."""
        self._core.load_hdf5(os.fspath(path))

    # -- help ------------------------------------------------------------------------
    def _index(self, layer: str) -> int:
        names = self._core.layer_names
        if layer not in names:
            raise UsageError(_unknown("layer", layer, names))
        return names.index(layer)

    def _checked(self, names: list[str]) -> list[str]:
        """``names`` without repetitions, all of them blobs."""
        for name in names:
            if name not in self.blobs:
                raise UsageError(_unknown("blob", name, list(self.blobs)))
        return list(dict.fromkeys(names))

    def _fill(
        self, arrays: dict[str, Any], expected: list[str], what: str, member: str
    ) -> None:
        """Write ``arrays`` into the data or diff of the blobs ``expected``."""
        if not arrays:
            return
        if set(arrays) != set(expected):
            msg = f"the net's {what} are {sorted(expected)}, received {sorted(arrays)}"
            raise UsageError(msg)
        for name, array in arrays.items():
            target, shape = self.blobs[name], getattr(array, "shape", ())
            if shape[:1] != target.shape[:1]:
                msg = (
                    f'blob "{name}": the batch of shape {tuple(shape)} does not fit '
                    f"{target.shape}; reshape the blob first, or use forward_all"
                )
                raise ShapeError(msg)
            try:
                getattr(target, member)[...] = array
            except ValueError as error:
                error.add_note(f'blob "{name}" of the net has the shape {target.shape}')
                raise


def _phase(phase: int | None, path: str) -> Phase:
    if phase is None or phase not in tuple(Phase):
        msg = f"{path}: the phase must be caffe.TRAIN or caffe.TEST, not {phase!r}"
        raise UsageError(msg)
    return Phase(phase)


def _hook(callback: Callable[[int], object]) -> Callable[[int], None]:
    def call(layer: int) -> None:
        callback(layer)

    return call


def _unknown(kind: str, name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else f"; it has {known}"
    return f"the net has no {kind} {name!r}{hint}"
