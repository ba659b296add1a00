"""Who says what on stderr: rank 0 everything, others only what is about ranks."""

from __future__ import annotations

import sys

from poseidon_caffe.report import tags
from poseidon_caffe.report.glog import Glog

__all__ = ["Voice"]


class Voice:
    """One rank's lines that do not come from its solver.

    Args:
        log: of this rank; silent but on rank 0.
        rank: of this process.
    """

    def __init__(self, log: Glog, rank: int) -> None:
        self._log, self._rank = log, rank
        self._loud = Glog(sys.stderr, min_level=log.min_level) if rank else log

    def tell_line(self, text: str) -> None:
        """A warning; where all ranks say the same, rank 0's is enough."""
        self._log.warning(tags.POSEIDON, text)
        if self._loud is not self._log and text.startswith(f"rank {self._rank}"):
            self._loud.warning(tags.POSEIDON, text)

    def tell_end(self, line: str, trace: str) -> None:
        """Why this rank ends the job: ``line`` names it, ``trace`` shows the place."""
        text = f"poseidon: error: {line}"
        self._log.error(tags.POSEIDON, f"{trace}\n{text}")
        if self._loud is not self._log:
            self._loud.error(tags.POSEIDON, f"{trace}\n{text}")
