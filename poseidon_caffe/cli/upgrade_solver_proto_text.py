"""``poseidon upgrade_solver_proto_text``: an old solver in today's format."""

from __future__ import annotations

from poseidon_caffe.cli.flags import Arguments, Command
from poseidon_caffe.cli.upgrading import WORDS, upgrade
from poseidon_caffe.report.glog import Glog

__all__ = ["COMMAND", "run"]


def run(args: Arguments, log: Glog) -> int:
    """Upgrade; 0 when the new file is in its place."""
    from poseidon_caffe.schema.rewrite import rewrite_solver_text

    return upgrade(rewrite_solver_text, "SolverParameter text", args, log)


COMMAND = Command(
    name="upgrade_solver_proto_text",
    summary="bring an old solver's prototxt to today's format",
    run=run,
    positionals=WORDS,
    description=(
        "The old solver_type becomes type; comments are not kept. "
        "A file that is current already is written all the same."
    ),
    examples=("poseidon upgrade_solver_proto_text old.prototxt new.prototxt",),
)
