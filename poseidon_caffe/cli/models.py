"""What `test` and `time` share: the backend and a net as the flags describe it."""

from __future__ import annotations

from dataclasses import replace

from poseidon_caffe.backend.gpu.settings import GpuSettings
from poseidon_caffe.backend.protocols import Ops
from poseidon_caffe.backend.select import get_ops
from poseidon_caffe.cli.flags import Arguments
from poseidon_caffe.net.net import Net, NetOptions
from poseidon_caffe.report import tags
from poseidon_caffe.report.glog import Glog
from poseidon_caffe.report.net_lines import log_net
from poseidon_caffe.schema.upgrade import read_net
from poseidon_caffe.types import Phase

__all__ = ["FAST", "load_weights", "open_net", "open_ops"]

FAST = NetOptions(fuse=True, share_memory=True, capture=True)
"""How nets run from the command line, where nobody looks at inner blobs."""


def open_ops(log: Glog, threads: int, gpu: GpuSettings | None = None) -> Ops:
    """A GPU's backend, or the CPU's; says once what the user should know of it."""
    if gpu is None:
        log.info(tags.USE_CPU, "Use CPU.")
        ops = get_ops("cpu", threads)
    else:
        ops = get_ops("gpu", threads, gpu=gpu)
    if ops.note:
        log.warning(tags.POSEIDON, ops.note)
    return ops


def open_net(
    args: Arguments, log: Glog, ops: Ops, phase: Phase, *, forward_only: bool = False
) -> Net:
    """The net of ``--model`` for ``--phase``, ``--level`` and ``--stage``.

    Args:
        args: the command's.
        log: gets the construction lines.
        ops: the backend.
        phase: what an absent ``--phase`` means.
        forward_only: backward will not be asked for.
    """
    path = args.text("model")
    named = args.text("phase")
    net = Net(
        read_net(path),
        ops=ops,
        phase=Phase[named] if named else phase,
        level=args.integer("level"),
        stages=args.items("stage"),
        options=replace(FAST, forward_only=forward_only),
        path=path,
    )
    log_net(log, net)
    return net


def load_weights(args: Arguments, log: Glog, net: Net) -> None:
    """Copy every file of ``--weights`` into ``net``, in order."""
    for path in args.items("weights"):
        for name in net.copy_trained_from(path):
            log.info(tags.IGNORED_LAYER, f"Ignoring source layer {name}")
