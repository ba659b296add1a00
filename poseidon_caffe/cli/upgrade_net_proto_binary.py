"""``poseidon upgrade_net_proto_binary``: bring an old .caffemodel to today's format."""

from __future__ import annotations

from poseidon_caffe.cli.flags import Arguments, Command
from poseidon_caffe.cli.upgrading import WORDS, upgrade
from poseidon_caffe.report.glog import Glog

__all__ = ["COMMAND", "run"]


def run(args: Arguments, log: Glog) -> int:
    """Upgrade; 0 when the new file is in its place."""
    from poseidon_caffe.schema.rewrite import rewrite_net_binary

    return upgrade(rewrite_net_binary, "NetParameter binary", args, log)


COMMAND = Command(
    name="upgrade_net_proto_binary",
    summary="bring an old .caffemodel to today's format",
    run=run,
    positionals=WORDS,
    description=(
        "Weights are untouched. A file that is current already is written all the same."
    ),
    examples=("poseidon upgrade_net_proto_binary old.caffemodel new.caffemodel",),
)
