"""glog from Python: ``caffe.init_log`` and ``caffe.log``."""

from __future__ import annotations

import os
import sys

from poseidon_caffe.report.glog import Glog

__all__ = ["current_log", "init_log", "log"]

_LEVEL_VARIABLE = "GLOG_minloglevel"
_log: dict[str, Glog] = {}


def _level(given: int | None = None) -> int:
    if given is not None:
        return int(given)
    text = os.environ.get(_LEVEL_VARIABLE, "")
    return int(text) if text.isdecimal() else 0


def current_log() -> Glog:
    """Where solvers opened from Python log: stderr, as loud as GLOG_minloglevel.

    Scripts set that variable before they import Caffe: "2" leaves errors only.
    """
    if "log" not in _log:
        init_log(_level())
    _log["log"].stream = sys.stderr  # whoever replaced stderr gets the lines
    return _log["log"]


def init_log(level: int | None = None, stderr: bool = True) -> None:  # noqa: ARG001, FBT001, FBT002 - pycaffe's signature
    """Set how loud the log is: 0 everything, 1 warnings, 2 errors, 3 nothing.

    Args:
        level: the mildest level to print; GLOG_minloglevel by default.
        stderr: accepted for pycaffe's sake; log lines always go to stderr.
    """
    _log["log"] = Glog(min_level=_level(level))


def log(message: str) -> None:
    """Write an INFO line to the log."""
    current_log().info("pycaffe:0", str(message))
