"""Net: runs a graph of layers forward and backward."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.backend.protocols import LossScale, Ops
from poseidon_caffe.errors import GraphError
from poseidon_caffe.layers.base import Layer, LayerContext, Pool
from poseidon_caffe.net.blame import blaming_parameters, blaming_tops
from poseidon_caffe.net.building import build, fill_loss_weights, out_of_memory
from poseidon_caffe.net.debug import DebugListener, DebugLog, first_non_finite
from poseidon_caffe.net.filtering import filter_net, net_state
from poseidon_caffe.net.fuse import fuse
from poseidon_caffe.net.hooks import DONE, NetObserver, NullObserver, ParamSlot
from poseidon_caffe.net.layer_backward import run_backward
from poseidon_caffe.net.memory import share_memory
from poseidon_caffe.net.options import NetOptions
from poseidon_caffe.net.param_groups import ParamGroup, gather
from poseidon_caffe.net.precision import insert_casts
from poseidon_caffe.net.replay import StepReplay, obstacle
from poseidon_caffe.net.splits import insert_splits
from poseidon_caffe.net.weights import copy_layers
from poseidon_caffe.net.weights_face import NetWeights
from poseidon_caffe.types import JsonObject, Phase, Shape, Shard

__all__ = ["LayerHook", "Net", "NetOptions"]

LayerHook = Callable[[int], None]


class Net(NetWeights):
    """A net built for one phase.

    Args:
        param: an upgraded NetParameter; it is not changed.
        ops: the backend.
        phase, level, stages: the state that layers' rules are matched with; stages
            that ``param`` names itself count too.
        dtype: float32, or float64 on the reference backend.
        seed: seeds fillers, dropout and data augmentation.
        shard: which worker of a cluster this is.

    Attributes:
        param: the NetParameter as built: filtered, splits and casts inserted.
        blobs: every blob by name, in Caffe's order.
        layers, layer_names, bottom_blobs, top_blobs, bottom_names, top_names,
        bottom_need_backward, layer_need_backward: per layer.
        params, param_names: every parameter; learnable: the distinct ones.
        slots: the learnable ones as solvers and clusters see them.
        groups: the same in pieces of memory, when memory is planned; else empty.
        observer: told about progress (wait-free backpropagation).
        room_bytes: free memory when the net began to be built.
        reshapes: how often a layer had to follow other shapes.
        pool: what BatchNorm pools its moments with (`set_pool`), or None.
        pooled: indices of the layers that do.
        loss_scale: a factor on all gradients, for who takes it out again; or None.

    Raises:
        GraphError, LayerError, DataError: the net cannot be built.
        WeightsError: parameters that stand in ``param`` itself do not fit.
    """

    pool: Pool | None = None
    pooled: frozenset[int] = frozenset()
    loss_scale: LossScale | None = None
    reshapes: int = 0

    def __init__(
        self,
        param: Any,
        *,
        ops: Ops,
        phase: Phase,
        level: int = 0,
        stages: Sequence[str] = (),
        dtype: type = np.float32,
        seed: int = 0,
        shard: Shard = Shard(),  # noqa: B008 - frozen
        options: NetOptions = NetOptions(),  # noqa: B008 - frozen
        path: str = "",
    ) -> None:
        self.ops, self.phase, self.options, self.path = ops, phase, options, path
        self.room_bytes = ops.memory.free_bytes()
        context = LayerContext(ops, phase, dtype, seed, shard, options.prefetch)
        stages = list(dict.fromkeys([*param.state.stage, *stages]))
        filtered = filter_net(param, net_state(phase, level, stages))
        self.param, dtypes = insert_casts(insert_splits(filtered), context.half_dtype)
        built = build(self.param, context, dtypes)
        for layer, wire in zip(built.layers, built.wiring, strict=True):
            if options.forward_only:
                wire.need = False
                wire.bottom_need = [False] * len(wire.bottom)
            layer.will_backward = wire.need
        self.layers: list[Layer] = built.layers
        self.layer_names = [layer.name for layer in built.layers]
        self.blobs: dict[str, Blob] = built.blobs
        self.bottom_blobs, self.top_blobs = built.bottoms, built.tops
        self.bottom_names = [wire.bottom for wire in built.wiring]
        self.top_names = [wire.top for wire in built.wiring]
        self.bottom_need_backward = [wire.bottom_need for wire in built.wiring]
        self.layer_need_backward = [wire.need for wire in built.wiring]
        self.params, self.param_names = built.table.blobs, built.table.names
        self.learnable = built.table.learnable
        self.param_owner = built.table.owner_of
        self.slots: list[ParamSlot] = built.table.slots(self.layers)
        self.input_names = [
            name
            for layer, names in zip(self.layers, self.top_names, strict=True)
            if layer.type == "Input"
            for name in names
        ]
        # Caffe keeps them in a set: the log and scripts see them sorted.
        self.output_names = sorted(built.available)
        self.groups: list[ParamGroup] = []
        self.observer: NetObserver = NullObserver()
        hooks: list[list[LayerHook]] = [[], [], [], []]
        self.before_forward_hooks, self.after_forward_hooks = hooks[:2]
        self.before_backward_hooks, self.after_backward_hooks = hooks[2:]
        self._total = ops.loss_total()
        self._has_loss = any(any(layer.loss_weights) for layer in self.layers)
        self._debug = DebugLog(self)
        self.debug_info = bool(self.param.debug_info)
        self._shapes = [self._layer_shapes(i) for i in range(len(self.layers))]
        self._take_stored_params()
        self._optimise()
        self._ready_after = _by_layer(self.slots)
        records = options.capture and obstacle(self) is None
        self._replay = StepReplay(self) if records else None

    def _take_stored_params(self) -> None:
        """Parameters may stand in the net itself, as they do in a .caffemodel."""
        if any(layer.param.blobs for layer in self.layers):
            stored = [layer.param for layer in self.layers if layer.param.blobs]
            copy_layers(self, stored, f"net {self.name}")
            for param in stored:
                del param.blobs[:]

    def _optimise(self) -> None:
        """Fuse layers and share memory, unless something must see every blob."""
        if self.debug_info or any(layer.runs_user_code for layer in self.layers):
            return
        if self.options.fuse:
            fuse(self)
        if self.options.share_memory:
            with blaming_tops(self):
                share_memory(self)
            if not self.options.forward_only:
                with blaming_parameters(self):
                    self.groups = gather(self.slots, self.learnable)

    # -- looking at it -----------------------------------------------------------
    @property
    def name(self) -> str:
        """The net's name in the prototxt."""
        return str(self.param.name)

    @property
    def output_blobs(self) -> list[Blob]:
        """Blobs that no layer reads."""
        return [self.blobs[name] for name in self.output_names if name in self.blobs]

    @property
    def loss_weights(self) -> dict[str, float]:
        """Loss weight of every blob (0 for those that are no loss)."""
        found = dict.fromkeys(self.blobs, 0.0)
        for layer, names in zip(self.layers, self.top_names, strict=True):
            found.update(zip(names, layer.loss_weights, strict=True))
        return found

    @property
    def memory_bytes(self) -> int:
        """Bytes of all tops, counted as Caffe's "Memory required for data" does."""
        return sum(
            blob.count * blob.dtype.itemsize for top in self.top_blobs for blob in top
        )

    @property
    def debug_listener(self) -> DebugListener | None:
        """Gets Caffe's debug lines while ``debug_info`` is on."""
        return self._debug.listener

    @debug_listener.setter
    def debug_listener(self, listener: DebugListener | None) -> None:
        self._debug.listener = listener

    def set_pool(self, pool: Pool | None) -> int:
        """Let BatchNorm take its moments over the batches of all workers.

        For the training net: each pass then has every worker make the same calls.

        Args:
            pool: what adds them up; None: each worker takes its own batch's again.

        Returns:
            How many layers it concerns.
        """
        self.pool = pool
        taking = [i for i, layer in enumerate(self.layers) if layer.set_pool(pool)]
        self.pooled = frozenset(taking if pool is not None else ())
        return len(taking)

    def layer_index(self, name: str) -> int:
        """Index of a layer.

        Raises:
            GraphError: there is no layer of that name.
        """
        try:
            return self.layer_names.index(name)
        except ValueError:
            msg = f'the net has no layer "{name}": it has {self.layer_names}'
            raise GraphError(msg) from None

    # -- running it ----------------------------------------------------------------
    def forward(
        self, start: int = 0, end: int | None = None, *, observed: bool = False
    ) -> float:
        """Run layers ``start`` to ``end`` inclusive; the weighted sum of losses.

        Numbers that overflow pass silently, as they do in Caffe; the solver looks
        at the loss.
        """
        with np.errstate(all="ignore"):
            self._forward(start, end, observed=observed)
            return self._read_loss()

    def _read_loss(self) -> float:
        if self._has_loss:
            return self._total.read()
        self.ops.raise_faults()
        return 0.0

    def _forward(self, start: int, end: int | None, *, observed: bool) -> None:
        stop = len(self.layers) if end is None else end + 1
        self.clear_loss()
        self.run_forward(range(start, stop), observed=observed)

    def clear_loss(self) -> None:
        """Begin a pass: no loss yet."""
        if self._has_loss:
            self._total.clear()

    def run_forward(self, indices: Iterable[int], *, observed: bool = False) -> None:
        """Run the layers with these indices; their losses are added to the total."""
        for i in indices:
            if observed:
                self.observer.before_forward(i)
            for hook in self.before_forward_hooks:
                hook(i)
            layer, top = self.layers[i], self.top_blobs[i]
            try:
                self.reshape_layer(i)
                layer.forward(self.bottom_blobs[i], top)
            except MemoryError as error:
                raise out_of_memory(layer, self.bottom_blobs[i], error, self) from error
            for weight, blob in zip(layer.loss_weights, top, strict=True):
                if weight:
                    self._total.add(blob.data, blob.diff)
            if self.debug_info:
                self._debug.forward(i)
            for hook in self.after_forward_hooks:
                hook(i)

    def backward(
        self, start: int | None = None, end: int = 0, *, last_pass: bool = True
    ) -> None:
        """Run layers ``start`` down to ``end`` inclusive.

        Args:
            start: index of the layer to begin with; None is the last.
            end: index of the layer to end with.
            last_pass: this is the last of ``iter_size`` passes, so gradients are
                complete once computed and the observer is told.
        """
        with np.errstate(all="ignore"):
            self._backward(start, end, last_pass=last_pass)

    def _backward(self, start: int | None, end: int, *, last_pass: bool) -> None:
        first = len(self.layers) - 1 if start is None else start
        indices = range(first, end - 1, -1)
        for i in indices:
            self.run_backward((i,))
            if not self.debug_info:
                self.tell_ready(i, last_pass=last_pass)
        if self.debug_info:
            # Who is told may change gradients and values at once.
            if start is None and end == 0:
                self._debug.whole_net()
            for i in indices:
                self.tell_ready(i, last_pass=last_pass)
        if last_pass:
            self.observer.backward_done()

    def run_backward(self, indices: Iterable[int]) -> None:
        """Run the layers with these indices backward; the observer hears nothing."""
        for i in indices:
            for hook in self.before_backward_hooks:
                hook(i)
            if self.layer_need_backward[i]:
                run_backward(self, i)
                if self.debug_info:
                    self._debug.backward(i)
            for hook in self.after_backward_hooks:
                hook(i)

    def tell_ready(self, layer: int, *, last_pass: bool) -> None:
        """Tell the observer of the gradients that a layer's backward completes."""
        for slot in self._ready_after.get(layer, ()):
            if last_pass:
                self.observer.grad_ready(slot, DONE)
            elif slot.source is not None:
                self.observer.factors_ready(slot)

    def forward_backward(self, *, last_pass: bool = True) -> float:
        """One forward and one backward pass; the loss."""
        with np.errstate(all="ignore"):
            if self._replay is not None and self._replay.can_run():
                self._replay.run(last_pass=last_pass)
            else:
                self._forward(0, None, observed=True)
                self._backward(None, 0, last_pass=last_pass)
            # Last: a GPU's host need not wait before all work has been given.
            return self._read_loss()

    def reshape_layer(self, index: int) -> None:
        """Let a layer follow its bottoms' shapes, when those or its tops' changed."""
        layer, top = self.layers[index], self.top_blobs[index]
        same = self._layer_shapes(index) == self._shapes[index]
        if same and not layer.runs_user_code:
            return
        self.reshapes += 1
        layer.reshape(self.bottom_blobs[index], top)
        fill_loss_weights(layer, top)
        self._shapes[index] = self._layer_shapes(index)

    def _layer_shapes(self, index: int) -> tuple[Shape, ...]:
        """Shapes of bottoms, and of tops: a user may have reshaped those too."""
        bottom, top = self.bottom_blobs[index], self.top_blobs[index]
        return tuple([b.shape for b in bottom] + [b.shape for b in top])

    def reshape(self) -> None:
        """Propagate changed input shapes through the whole net."""
        for i in range(len(self.layers)):
            self.reshape_layer(i)

    def clear_param_diffs(self) -> None:
        """Zero all parameter gradients (lazily: the next backward overwrites)."""
        for blob in self.learnable:
            blob.clear_diff()
        for blob, owner in zip(self.params, self.param_owner, strict=True):
            if blob is not self.learnable[owner]:
                # Shared under another shape: its writer must see real zeros.
                _ = self.learnable[owner].diff

    def first_non_finite(self) -> str | None:
        """The first parameter or blob, in forward order, that holds a NaN or inf.

        Runs the net again from the data on (data layers do not advance), so that it
        also works where blobs share memory.
        """
        with np.errstate(all="ignore"):
            return first_non_finite(self)

    # -- state -------------------------------------------------------------------
    def state(self) -> JsonObject:
        """What resume needs besides parameters: data positions, generators."""
        found = {layer.name: layer.state() for layer in self.layers}
        return {name: state for name, state in found.items() if state}

    def restore_state(self, state: JsonObject) -> None:
        """Take back what `state` gave; layers it does not name are left alone."""
        for layer in self.layers:
            if layer.name in state:
                layer.restore_state(state[layer.name])

    def skip_batch(self) -> None:
        """Leave the next batch of a test to another worker."""
        for layer in self.layers:
            layer.skip_batch()

    def close(self) -> None:
        """Stop data threads and close databases."""
        for layer in self.layers:
            layer.close()


def _by_layer(slots: Iterable[ParamSlot]) -> dict[int, list[ParamSlot]]:
    """Slots by the layer whose backward completes their gradients."""
    found: dict[int, list[ParamSlot]] = {}
    for slot in slots:
        found.setdefault(slot.ready_after, []).append(slot)
    return found
