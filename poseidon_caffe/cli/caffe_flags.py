"""Flags that several of Caffe's commands share.

Caffe's flags are one set for all commands: a script may give ``caffe test`` a
``--snapshot`` that it never looks at.  `with_idle` adds such flags to a command,
each answered with one warning line.
"""

from __future__ import annotations

from typing import Final

from poseidon_caffe.cli.flags import Flag
from poseidon_caffe.cli.gpu_flags import GPU

__all__ = [
    "ITERATIONS",
    "LEVEL",
    "MODEL",
    "PHASE",
    "STAGE",
    "WEIGHTS",
    "with_idle",
]

_STATE: Final = "Net state"

ITERATIONS: Final = Flag("iterations", 50, "how many iterations to run", value="N")
MODEL: Final = Flag("model", "", "the net's prototxt", value="FILE")
WEIGHTS: Final = Flag(
    "weights",
    "",
    "trained weights (.caffemodel or .caffemodel.h5); several separated by commas, "
    "the last one wins",
    value="FILE[,FILE]",
)
PHASE: Final = Flag(
    "phase",
    "",
    "state of the net",
    value="PHASE",
    choices=("", "TRAIN", "TEST"),
    group=_STATE,
)
LEVEL: Final = Flag("level", 0, "level of the net state", value="N", group=_STATE)
STAGE: Final = Flag(
    "stage",
    "",
    "stages of the net state, separated by commas",
    value="A,B",
    group=_STATE,
)

_ALL: Final = (
    GPU,
    MODEL,
    WEIGHTS,
    ITERATIONS,
    PHASE,
    LEVEL,
    STAGE,
    Flag("solver", "", ""),
    Flag("snapshot", "", ""),
    Flag("sigint_effect", "stop", ""),
    Flag("sighup_effect", "snapshot", ""),
)


def with_idle(command: str, flags: tuple[Flag, ...]) -> tuple[Flag, ...]:
    """``flags`` of ``command`` and Caffe's other flags, which it does not use."""
    own = {flag.name for flag in flags}
    idle = (
        Flag(
            flag.name,
            flag.default,
            flag.help,
            hidden=True,
            warning=f"has no effect on '{command}'",
        )
        for flag in _ALL
        if flag.name not in own
    )
    return (*flags, *idle)
