"""A solver as the cluster sees it: parameters, the rule for pieces of them, factors."""

from __future__ import annotations

from collections.abc import Sequence

from poseidon_caffe.backend.protocols import Transfers
from poseidon_caffe.backend.select import get_ops
from poseidon_caffe.comm.carrier import (
    DIRECT,
    Carrier,
    GradientScale,
    ParamBlob,
    Rebuilder,
)
from poseidon_caffe.comm.courier import Courier, Waiting
from poseidon_caffe.comm.device_factors import (
    DeviceFactorCarrier,
    DeviceFactorRebuilder,
)
from poseidon_caffe.comm.device_scale import DeviceScale
from poseidon_caffe.comm.mirror import MirrorCarrier
from poseidon_caffe.comm.mirror_rebuilding import MirrorRebuilder
from poseidon_caffe.comm.model import Model
from poseidon_caffe.comm.policy import PROCESSOR, Speed
from poseidon_caffe.net.net import Net
from poseidon_caffe.solver.events import GradientsClipped
from poseidon_caffe.solver.solver import Solver
from poseidon_caffe.types import Array, RowUpdater

__all__ = ["factor_rows", "model_of"]


def model_of(
    solver: Solver,
    courier: Courier,
    *,
    is_pooled: bool = False,
    device_factors: bool = False,
    speed: Speed = PROCESSOR,
) -> Model:
    """What a cluster needs of ``solver``; make it when the start state is in place.

    Args:
        solver: with the values that all ranks begin with.
        courier: started.
        is_pooled: statistics come out equal on all workers by themselves
            (``--sync_batch_norm``), so they need not travel.
        device_factors: MPI takes memory of the GPU, so factors stay there.
        speed: of all workers.
    """
    limit = float(solver.param.clip_gradients)

    def on_clip(iteration: int, norm: float, factor: float) -> None:
        solver.emit(GradientsClipped(iteration, norm, limit, factor))

    def rebuild(x: Array, dy: Array, dw: Array, db: Array | None) -> None:
        solver.ops.inner_product_backward_weights(x, dy, dw, db)

    ops, net = solver.ops, solver.net
    transfers = None if ops.memory.is_host else ops.transfers()
    carrier, blobs, rebuilder = _carried(
        solver, courier, transfers, device_factors=device_factors
    )
    return Model(
        slots=net.slots,
        blobs=blobs,
        updater=_courier_updater(solver, courier),
        local_updater=solver.row_updater(),
        rebuild=rebuild,
        factor_rows=factor_rows(net),
        iteration=solver.iteration,
        iter_size=int(solver.param.iter_size),
        clip_gradients=limit,
        frozen=_frozen(solver, is_pooled=is_pooled),
        counts_still=bool(net.param.force_backward),
        on_clip=on_clip,
        rebuilder=rebuilder,
        carrier=carrier,
        speed=speed,
        scale=_scale(net, courier, transfers),
    )


def _carried(
    solver: Solver,
    courier: Courier,
    transfers: Transfers | None,
    *,
    device_factors: bool,
) -> tuple[Carrier, Sequence[ParamBlob], Rebuilder | None]:
    """What travels: the parameters themselves, or mirrors of those on a GPU."""
    net, ops = solver.net, solver.ops
    if transfers is None:
        return DIRECT, net.learnable, None
    carries = DeviceFactorCarrier if device_factors else MirrorCarrier
    rebuilds = DeviceFactorRebuilder if device_factors else MirrorRebuilder
    carrier = carries(courier, net.slots, net.learnable, transfers)
    rebuilder = rebuilds(courier, carrier, ops, transfers, solver.row_updater(ops))
    return carrier, carrier.mirrors, rebuilder


def _scale(
    net: Net, courier: Courier, transfers: Transfers | None
) -> GradientScale | None:
    """The factor on gradients where activations have float16's few exponents."""
    if net.loss_scale is None or transfers is None:
        return None
    return DeviceScale(courier, net.learnable, net.loss_scale, transfers)


def factor_rows(net: Net) -> dict[int, int]:
    """Rows of the factors of one pass, by index of the slots that have factors."""
    rows = {}
    for slot in net.slots:
        if slot.source is not None and len(slot.users) == 1:
            top = net.top_blobs[slot.owner][0]
            rows[slot.index] = top.count // max(slot.shape[0], 1)
    return rows


def _frozen(solver: Solver, *, is_pooled: bool) -> frozenset[int]:
    """Slots that never change."""
    return frozenset(
        slot.index
        for slot in solver.net.slots
        if (is_pooled if slot.statistics else solver.updater.is_frozen(slot.index))
    )


def _courier_updater(solver: Solver, courier: Courier) -> RowUpdater:
    """The one for the communication thread: one core, the others compute.

    It is made there: OpenMP's number of threads belongs to the thread that sets it.
    """
    made: list[RowUpdater] = []
    name = solver.ops.host.name
    courier.call(lambda: made.append(solver.row_updater(get_ops(name, 1))))
    courier.wait_for(lambda: bool(made), Waiting("the kernels of the update"))
    return made[0]
