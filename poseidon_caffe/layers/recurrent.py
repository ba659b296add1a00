"""What LSTM and RNN share: bottoms, carried states, projections and gradients."""

from __future__ import annotations

import base64
import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from poseidon_caffe.backend.blob import Blob
from poseidon_caffe.backend.protocols.recurrent import SequenceKernel
from poseidon_caffe.errors import LayerError
from poseidon_caffe.layers.base import Example, Layer, LayerContext
from poseidon_caffe.layers.gradients import param_gradients
from poseidon_caffe.layers.layout import PlainView
from poseidon_caffe.types import Array, JsonObject, Shape

__all__ = ["Recurrent", "SequenceStates", "sequence_examples"]

_SEQUENCE_AXES = 2


class SequenceStates:
    """cont (T, N), states before the first step and where the last ones go."""

    def __init__(self, cont: Array, start: list[Array], last: list[Array]) -> None:
        self.cont, self.start, self.last = cont, start, last


class _Projection:
    """A bottom's views for reading and writing, and its product's gradient."""

    def __init__(self, read: PlainView, write: PlainView, dz: Array) -> None:
        self.read, self.write, self.dz = read, write, dz


class Recurrent(Layer):
    """Base of the layers that run over sequences.

    T steps of N streams: x is (T, N, ...), cont (T, N), static (N, ...), states
    are (1, N, H) with H = num_output.  Parameters start with W_x (G, D), b (G,) and,
    with a static bottom, W_static (G, S); then comes W_h (G, H), at index
    ``self.recurrent_index``.
    """

    min_bottom = 2
    min_top = 1

    #: States that go from step to step: h, and an LSTM's c.
    num_states: ClassVar[int] = 1
    #: Inputs of a step for every output: G = H * gates.
    gates: ClassVar[int] = 1

    def __init__(self, param: Any, context: LayerContext) -> None:
        super().__init__(param, context)
        settings = param.recurrent_param
        self.expose = bool(settings.expose_hidden)
        self.outputs = int(settings.num_output)
        self.steps, self.streams, self.has_static = 0, 0, False
        self._kernel: SequenceKernel | None = None
        self._inner, self._static_inner = 0, 0
        #: Last states, as flat memory that grows and never shrinks, as Caffe's.
        self._carried = [self._blob() for _ in range(self.num_states)]
        #: What the inputs add to each step, and the gradient of that.
        self.z, self.dz = self._blob(), self._blob()
        self._static_z, self._static_dz = self._blob(), self._blob()
        self._views = [PlainView(self.ops, context.dtype) for _ in range(4)]

    def _blob(self) -> Blob:
        """An empty blob of this layer's own."""
        context = self.context
        return Blob((0,), dtype=context.dtype, memory=context.ops.memory)

    # -- what a type fills in --------------------------------------------------
    @abstractmethod
    def make_kernel(self) -> SequenceKernel:
        """The sequence kernel of the present shape."""

    @abstractmethod
    def run_sequence(
        self, z: Array, static: Array | None, states: SequenceStates, top: Blob
    ) -> None:
        """Fill ``top`` from the projected inputs z (T, N, G)."""

    @abstractmethod
    def run_sequence_back(self, top: Blob, cont: Array, z: Array, dz: Array) -> None:
        """Write dz (T, N, G), add to the gradients of parameters from W_h on.

        ``z`` is as `run_sequence` left it.
        """

    # -- shapes ----------------------------------------------------------------
    def check_arity(self, num_bottom: int, num_top: int) -> None:
        """x, cont, a static bottom if one more, and states where exposed."""
        states = self.num_states if self.expose else 0
        least = 2 + states
        if num_bottom not in {least, least + 1}:
            problem = f"takes {least} or {least + 1} bottoms, not {num_bottom}"
            raise LayerError(self.describe(problem + self._exposure()))
        if num_top != 1 + states:
            problem = f"takes {1 + states} top(s), not {num_top}"
            raise LayerError(self.describe(problem + self._exposure()))

    def _exposure(self) -> str:
        return f" (expose_hidden is {'true' if self.expose else 'false'})"

    @property
    def ready_kernel(self) -> SequenceKernel:
        """The kernel that the last reshape made."""
        if self._kernel is None:
            raise LayerError(self.describe("has not been reshaped"))
        return self._kernel

    @property
    def inputs(self) -> int:
        """G, values that enter each step of each stream."""
        return self.gates * self.outputs

    @property
    def recurrent_index(self) -> int:
        """Which parameter W_h is."""
        return 3 if self.has_static else 2

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Make W_x, b, W_static and W_h; a type adds what it has beyond."""
        if self.outputs < 1:
            raise LayerError(self.describe("num_output must be given and positive"))
        exposed = self.num_states if self.expose else 0
        self.has_static = len(bottom) > _SEQUENCE_AXES + exposed
        self._check_axes(bottom)
        self.steps = bottom[0].shape[0]
        if self.steps < 1:
            raise self.shape_error("needs at least one time step", bottom)
        settings, inputs = self.param.recurrent_param, self.inputs
        self._inner = math.prod(bottom[0].shape[2:])
        self.add_param((inputs, self._inner), settings.weight_filler)
        self.add_param((inputs,), settings.bias_filler)
        if self.has_static:
            self._static_inner = math.prod(bottom[2].shape[1:])
            self.add_param((inputs, self._static_inner), settings.weight_filler)
        self.add_param((inputs, self.outputs), settings.weight_filler)

    def _check_axes(self, bottom: Sequence[Blob]) -> None:
        x, cont = bottom[0].shape, bottom[1].shape
        if len(x) <= _SEQUENCE_AXES:
            problem = "the first bottom must have at least 3 axes: steps, streams, data"
            raise self.shape_error(problem, bottom)
        if cont != x[:_SEQUENCE_AXES]:
            problem = f"cont must have the shape (steps, streams) = {x[:2]}, not {cont}"
            raise self.shape_error(problem, bottom)
        if not self.has_static:
            return
        static = bottom[2].shape
        if len(static) < _SEQUENCE_AXES or static[0] != x[1]:
            problem = f"the static bottom must be ({x[1]}, ...), streams first"
            raise self.shape_error(problem, bottom)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Streams may change in number, steps and data sizes may not.

        Carried states are kept for the streams that stay; with more streams than
        there ever were, all start from zero.
        """
        self._check_axes(bottom)
        self._check_unchanged(bottom)
        streams, inputs = bottom[0].shape[1], self.inputs
        if self._kernel is None or streams != self.streams:
            self.streams = streams
            self._kernel = self.make_kernel()
        state = (1, streams, self.outputs)
        for i, blob in enumerate(self._exposed_bottoms(bottom)):
            if blob.shape != state:
                problem = f"state {i} must have the shape {state}, not {blob.shape}"
                raise self.shape_error(problem, bottom)
        for kept in self._carried:
            if kept.count < streams * self.outputs:
                kept.reshape((streams * self.outputs,))
                self.ops.memory.clear(kept.data)
        for blob in (self.z, self.dz):
            blob.reshape((self.steps, streams, inputs))
        for blob in (self._static_z, self._static_dz):
            blob.reshape((streams, inputs))
        top[0].reshape((self.steps, streams, self.outputs))
        for blob in top[1:]:
            blob.reshape(state)

    def _check_unchanged(self, bottom: Sequence[Blob]) -> None:
        shape = bottom[0].shape
        if shape[0] != self.steps:
            problem = f"was set up for {self.steps} time steps, which cannot change"
            raise self.shape_error(problem, bottom)
        if math.prod(shape[2:]) != self._inner:
            problem = f"needs {self._inner} values a step for its weights"
            raise self.shape_error(problem, bottom)
        if self.has_static and math.prod(bottom[2].shape[1:]) != self._static_inner:
            problem = f"needs {self._static_inner} static values for its weights"
            raise self.shape_error(problem, bottom)

    def allow_force_backward(self, bottom_index: int) -> bool:
        """cont gets no gradient."""
        return bottom_index != 1

    # -- states ------------------------------------------------------------------
    def _exposed_bottoms(self, bottom: Sequence[Blob]) -> Sequence[Blob]:
        return bottom[3 if self.has_static else 2 :]

    def _states(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> SequenceStates:
        """cont, and where this forward starts from and leaves its last states."""
        shape = (self.streams, self.outputs)
        cont = bottom[1].data
        if self.expose:
            start = [b.data.reshape(shape) for b in self._exposed_bottoms(bottom)]
            return SequenceStates(cont, start, [b.data.reshape(shape) for b in top[1:]])
        count = math.prod(shape)
        kept = [blob.data[:count].reshape(shape) for blob in self._carried]
        return SequenceStates(cont, kept, kept)

    def state(self) -> JsonObject:
        """Carried states, exactly: raw little-endian numbers in base 64, any size."""
        if self.expose:
            return {}
        kind = np.dtype(self.context.dtype).newbyteorder("<")
        raw = [blob.cpu_data.astype(kind).tobytes() for blob in self._carried]
        return {
            "dtype": kind.name,
            "hidden": [base64.b64encode(data).decode("ascii") for data in raw],
        }

    def restore_state(self, state: JsonObject) -> None:
        """Take back what `state` gave.

        Raises:
            LayerError: the state is of a layer with another number of states.
        """
        hidden = state.get("hidden")
        if hidden is None:
            return
        if not isinstance(hidden, list) or len(hidden) != self.num_states:
            raise LayerError(self.describe("the saved state is not of this layer"))
        kind = np.dtype(str(state["dtype"])).newbyteorder("<")
        for kept, text in zip(self._carried, hidden, strict=True):
            values = np.frombuffer(base64.b64decode(str(text)), kind)
            kept.reshape((max(values.size, self.streams * self.outputs),))
            numbers = kept.mutable_cpu_data
            numbers[: values.size], numbers[values.size :] = values, 0

    # -- running -------------------------------------------------------------------
    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """All inputs in one product, then step by step."""
        rows = self.steps * self.streams
        x = self._views[0].read(bottom[0].data, (rows, self._inner))
        z = self.z.data
        weights, bias = self.blobs[0].data, self.blobs[1].data
        self.ops.inner_product(x, weights, bias, z.reshape(rows, self.inputs))
        static = None
        if self.has_static:
            shape = (self.streams, self._static_inner)
            values = self._views[1].read(bottom[2].data, shape)
            static = self._static_z.data
            self.ops.inner_product(values, self.blobs[2].data, None, static)
        self._debug("Forward", "x_transform", "top blob", z)
        self.run_sequence(z, static, self._states(bottom, top), top[0])
        self._debug("Forward", "concat", "top blob", top[0].data)

    def backward(
        self,
        top: Sequence[Blob],
        propagate_down: Sequence[bool],
        bottom: Sequence[Blob],
    ) -> None:
        """Back through all steps; nothing goes beyond them, nor to cont."""
        dz = self.dz.data
        self.run_sequence_back(top[0], bottom[1].data, self.z.data, dz)
        rows = (self.steps * self.streams, self.inputs)
        part = _Projection(self._views[0], self._views[2], dz.reshape(rows))
        self._project_back(part, bottom[0], slice(0, 2), down=propagate_down[0])
        if self.has_static:
            total = self._static_dz.data
            flat = (self.steps, self.streams * self.inputs)
            self.ops.sum_outer(dz.reshape(flat), 1, flat[1:], total.reshape(-1))
            part = _Projection(self._views[1], self._views[3], total)
            self._project_back(part, bottom[2], slice(2, 3), down=propagate_down[2])
        self._no_gradient(bottom, propagate_down)
        for index, blob in enumerate(self.blobs):
            if self.param_propagate_down[index]:
                self._debug("Backward", "unrolled", f"param blob {index}", blob.diff)

    def _project_back(
        self, part: _Projection, bottom: Blob, params: slice, *, down: bool
    ) -> None:
        """Gradients of one projection: of W and b, and (``down``) of its bottom."""
        weights = self.blobs[params.start].data
        shape: Shape = (part.dz.shape[0], weights.shape[1])
        wanted = self.param_propagate_down[params]
        grads, accumulate = param_gradients(self.blobs[params], wanted)
        dw, db = grads[0], grads[1] if len(grads) > 1 else None
        if dw is not None:
            x = part.read.read(bottom.data, shape)
            self.ops.inner_product_backward_weights(
                x, part.dz, dw, db, accumulate=accumulate
            )
        elif db is not None:
            self.ops.sum_outer(part.dz, 1, db.shape, db, accumulate=accumulate)
        if down:
            dx = part.write.target(bottom.diff, shape)
            self.ops.inner_product_backward_data(part.dz, weights, dx)
            part.write.write_back(dx, bottom.diff)

    def _no_gradient(
        self, bottom: Sequence[Blob], propagate_down: Sequence[bool]
    ) -> None:
        """Zeros for cont and exposed states, as far as gradients are asked for."""
        first = 3 if self.has_static else 2
        for index in (1, *range(first, len(bottom))):
            if propagate_down[index]:
                self.ops.memory.clear(bottom[index].diff)

    def recurrent_gradient(self) -> tuple[Array | None, bool]:
        """Where the gradient of W_h goes, and whether it is added to."""
        at = slice(self.recurrent_index, self.recurrent_index + 1)
        grads, accumulate = param_gradients(
            self.blobs[at], self.param_propagate_down[at]
        )
        return grads[0], accumulate

    def _debug(self, way: str, what: str, kind: str, values: Array) -> None:
        """With ``debug_info``, note a mean magnitude in the form of Caffe's lines."""
        if not self.param.recurrent_param.debug_info or self.note is None:
            return
        mean = self.ops.asum(values) / max(values.size, 1)
        member = "diff" if way == "Backward" else "data"
        self.note(f"    [{way}] Layer {self.name}_{what}, {kind} {member}: {mean:g}")


def sequence_examples(num_states: int) -> list[Example]:
    """Uses of a recurrent type with ``num_states`` states, for the contract suite."""
    fill = 'weight_filler { type: "uniform" min: -0.5 max: 0.5 }'
    body = f"num_output: 3 {fill} bias_filler {{ type: 'uniform' max: 0.2 }}"
    plain = f"recurrent_param {{ {body} }}"
    exposed = f"recurrent_param {{ {body} expose_hidden: true }}"
    states, cont = ((1, 2, 3),) * num_states, {1: 2}
    x, both = ((4, 2, 5), (4, 2)), ((4, 2, 5), (4, 2), (2, 3, 2))
    more, last = (1,) * num_states, 1 + num_states
    return [
        Example(plain, x, labels=cont, batch_axes=(1, 1)),
        Example(plain, ((1, 3, 2, 2), (1, 3)), labels=cont, batch_axes=(1, 1)),
        Example(plain, both, labels=cont, batch_axes=(1, 1, 0)),
        # Exposed states get no gradient, which a numeric one would have.
        Example(
            exposed, (*x, *states), last, cont,
            check_gradient=False, batch_axes=(1, 1, *more),
        ),
        Example(
            exposed, (*both, *states), last, cont,
            check_gradient=False, batch_axes=(1, 1, 0, *more),
        ),
    ]  # fmt: skip
