"""Convolution plans by cuDNN's graph interface: an engine and its knobs a product."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from poseidon_caffe.backend.gpu.cudnn.backend_descriptor import BackendDescriptor
from poseidon_caffe.backend.gpu.cudnn.choices import Choice
from poseidon_caffe.backend.gpu.cudnn.constants import MathType
from poseidon_caffe.backend.gpu.cudnn.engines import Engines
from poseidon_caffe.backend.gpu.cudnn.graph_constants import Attribute, Kind
from poseidon_caffe.backend.gpu.cudnn.handle import Handle
from poseidon_caffe.backend.gpu.cudnn.operation_graph import (
    GraphBuilder,
    HandleTarget,
    Target,
    Uid,
)
from poseidon_caffe.backend.gpu.cudnn.plan import Addresses, Direction, Request
from poseidon_caffe.errors import BackendError

__all__ = ["Executable", "GraphPlan", "GraphPlanner"]

_MOST_MEASURED = 16
_RUNS = 3


class Executable:
    """An engine made ready for one graph.

    Attributes:
        choice: which engine, and what it takes.
        workspace: bytes of scratch memory that it uses.

    Args:
        handle: the library on a device.
        plan: of the library, final.
        uids: the tensors that memory must be given for.
        choice: which engine.
    """

    def __init__(
        self,
        handle: Handle,
        plan: BackendDescriptor,
        uids: tuple[Uid, ...],
        choice: Choice,
    ) -> None:
        self._handle, self._plan, self._uids = handle, plan, uids
        self.workspace = plan.long(Attribute.EXECUTION_PLAN_WORKSPACE_SIZE)
        self.choice = replace(choice, workspace=self.workspace)
        self._pack: BackendDescriptor | None = None
        self._packed: tuple[int | None, ...] = ()

    def run(self, at: Addresses) -> None:
        """Compute on the compute stream."""
        scratch = self._handle.workspace.address(self.workspace)
        by_uid = {Uid.X: at.x, Uid.W: at.w, Uid.Y: at.y, Uid.BIAS: at.bias}
        addresses = (*(by_uid[uid] for uid in self._uids), scratch)
        # A net's arrays stay where they are, so that one pack mostly serves for good.
        if self._pack is None or addresses != self._packed:
            self._pack, self._packed = self._variant_pack(addresses), addresses
        self._handle.call("cudnnBackendExecute", self._plan.address, self._pack.address)

    def _variant_pack(self, addresses: tuple[int | None, ...]) -> BackendDescriptor:
        pack = BackendDescriptor(self._handle.library, Kind.VARIANT_PACK)
        pack.longs(Attribute.VARIANT_PACK_UNIQUE_IDS, *self._uids)
        pack.pointers(Attribute.VARIANT_PACK_DATA_POINTERS, *addresses[:-1])
        if addresses[-1] is not None:
            pack.pointers(Attribute.VARIANT_PACK_WORKSPACE, addresses[-1])
        return pack.finalize()


class GraphPlan:
    """`Plan` by the graph interface; its results cannot be added to.

    Attributes:
        workspace: bytes of scratch memory.
        accumulates: never.
        fuses: whether bias and ReLU are part of the graph.

    Args:
        plain: makes the product alone ready; None where the library cannot.
        fused: with bias and ReLU, if that is to be used.
    """

    accumulates = False

    def __init__(
        self, plain: Callable[[], Executable | None], fused: Executable | None
    ) -> None:
        self._make_plain = plain
        self._plain = plain() if fused is None else None
        self._fused = fused

    @property
    def fuses(self) -> bool:
        """Whether bias and ReLU are part of the graph."""
        return self._fused is not None

    @property
    def workspace(self) -> int:
        """Bytes of scratch memory."""
        both = (self._plain, self._fused)
        return max((each.workspace for each in both if each is not None), default=0)

    @property
    def works(self) -> bool:
        """Whether there is an engine at all."""
        return self._plain is not None or self._fused is not None

    def run(self, at: Addresses, *, accumulate: bool = False) -> None:
        """Compute the product alone.

        Raises:
            BackendError: the library has no engine, or the result should be added.
        """
        if accumulate:
            raise BackendError("cuDNN's graph convolution cannot add to its result")
        if self._plain is None:
            self._plain = self._make_plain()
        if self._plain is None:
            raise BackendError("cuDNN has no engine for this convolution alone")
        self._plain.run(at)

    def run_fused(self, at: Addresses) -> bool:
        """y = relu?(conv(x, w) + bias) in one go, if there is an engine for that."""
        if self._fused is None or at.bias is None:
            return False
        self._fused.run(at)
        return True


class GraphPlanner:
    """`Planner` by the graph interface.

    Args:
        handle: the library on a device.
        target: what graphs are made for; the handle's device unless given.
    """

    def __init__(self, handle: Handle, target: Target | None = None) -> None:
        self._handle = handle
        self._target = target or HandleTarget(handle.address)

    def plan(
        self,
        request: Request,
        at: Addresses,
        finish: Callable[[], None] | None = None,
    ) -> GraphPlan | None:
        """A plan: as chosen before, else by measuring, else by heuristics.

        Bias and ReLU become part of the graph where that is faster than ``finish``
        after the product; unmeasured, where tensor cores may be used (without them
        the library has none but slow engines for that).
        """
        wanted = (
            request.direction is Direction.FORWARD
            and request.geometry.bias
            and at.bias is not None
            and finish is not None
        )
        fused = self._executable(request, at, fused=True) if wanted else None
        if (
            fused is not None
            and finish is not None
            and not self._pays(request, at, fused, finish)
        ):
            fused = None
        plan = GraphPlan(lambda: self._executable(request, at, fused=False), fused)
        return plan if plan.works else None

    def _pays(
        self,
        request: Request,
        at: Addresses,
        fused: Executable,
        finish: Callable[[], None],
    ) -> bool:
        """Whether the fused graph beats its parts."""
        handle = self._handle
        if not handle.settings.autotune:
            return handle.settings.math_type(request.dtype) is not MathType.FMA
        plain = self._executable(request, at, fused=False)
        if plain is None:
            return True

        def parts() -> None:
            plain.run(at)
            finish()

        return self._time(lambda: fused.run(at)) <= self._time(parts)

    def _executable(
        self, request: Request, at: Addresses, *, fused: bool
    ) -> Executable | None:
        """The product made ready; None where the library has no engine."""
        handle = self._handle
        builder = GraphBuilder(handle.library, request, fused=fused)
        try:
            graph = builder.build(self._target)
        except BackendError:
            return None
        engines = Engines(handle.library, graph, self._target)
        extra = f"fused {request.geometry.relu}" if fused else ""
        key = request.key(handle.settings, "graph", extra)
        known = handle.choices.get(key)
        made = self._ready(engines, builder, known) if known is not None else None
        if made is None:
            made = self._best(engines, builder, request, at)
            if made is not None and made.choice.milliseconds >= 0:
                handle.choices.put(key, made.choice)
        return made

    def _ready(
        self, engines: Engines, builder: GraphBuilder, choice: Choice
    ) -> Executable | None:
        plan = engines.plan(choice)
        if plan is None:
            return None
        made = Executable(self._handle, plan, builder.uids, choice)
        limit = self._handle.settings.workspace_limit
        return made if made.workspace <= limit else None

    def _best(
        self, engines: Engines, builder: GraphBuilder, request: Request, at: Addresses
    ) -> Executable | None:
        """The fastest of the likely ones, or the likeliest if none is measured."""
        settings = self._handle.settings
        best: Executable | None = None
        tried = 0
        for choice in engines.choices(settings, settings.math_type(request.dtype)):
            made = self._ready(engines, builder, choice)
            if made is None:
                continue
            if not settings.autotune:
                return made
            time = self._measured(made, at)
            if time is not None and (best is None or time < best.choice.milliseconds):
                best = made
                best.choice = replace(made.choice, milliseconds=time)
            tried += 1
            if tried == _MOST_MEASURED:
                break
        return best

    def _measured(self, made: Executable, at: Addresses) -> float | None:
        """Milliseconds; None if it does not run, for want of memory perhaps."""
        try:
            return self._time(lambda: made.run(at))
        except (BackendError, MemoryError):
            return None

    def _time(self, work: Callable[[], None]) -> float:
        """The least of some runs, after one that warms up."""
        work()
        return min(self._handle.device.measure(work) for _ in range(_RUNS))
