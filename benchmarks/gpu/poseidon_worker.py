"""Poseidon's side: training steps as ``poseidon train --gpu 0`` does them."""

from __future__ import annotations

import gc
from typing import Any

from benchmarks.gpu.serving import Built, serve
from benchmarks.nets import Case, sample, training_net
from poseidon_caffe.backend.gpu.settings import GpuSettings
from poseidon_caffe.backend.select import get_ops
from poseidon_caffe.net.net import NetOptions
from poseidon_caffe.schema.upgrade import parse_solver
from poseidon_caffe.solver.solver import Solver, SolverOptions

SOLVER = (
    'base_lr: 1e-6 lr_policy: "fixed" momentum: 0.9 weight_decay: 0.0005 '
    "max_iter: 1000000000 random_seed: 1"
)


class Poseidon:
    """`Program` of Poseidon."""

    def __init__(self) -> None:
        self._solver: Solver | None = None

    def build(self, case: Case, precision: str) -> Built:
        """A solver whose batch lies on the GPU."""
        param = parse_solver(SOLVER)
        param.net_param.CopyFrom(training_net(case))
        # A backend of its own: its scratch memory goes with the net.
        ops = get_ops("gpu", gpu=GpuSettings(precision=precision))
        net = NetOptions(fuse=True, share_memory=True, capture=True)
        self._solver = solver = Solver(param, ops=ops, options=SolverOptions(net=net))
        for name, values in zip(solver.net.input_names, sample(case), strict=True):
            solver.net.blobs[name].mutable_cpu_data[...] = values
        losses = [blob for blob in solver.net.output_blobs if blob.count == 1]

        def step() -> float:
            solver.step(1)
            return float(losses[-1].cpu_data.reshape(-1)[0])

        step()
        # What cuDNN tried out while it measured is not what training needs.
        if pool := _pool():
            pool.free_all_blocks()
        return Built(step, ops.note or "")

    def peak_mb(self) -> float:
        """What CuPy's pool holds: after `build` it never gives back by itself."""
        pool = _pool()
        return pool.total_bytes() / 1e6 if pool else 0.0

    def drop(self) -> None:
        """Forget the net and empty the pool."""
        self._solver = None
        gc.collect()
        pool = _pool()
        if pool:
            pool.free_all_blocks()


def _pool() -> Any:
    """CuPy's memory pool; None on the emulator."""
    if GpuSettings().emulated:
        return None
    import cupy

    return cupy.get_default_memory_pool()


if __name__ == "__main__":
    serve(Poseidon())
