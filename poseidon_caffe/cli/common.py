"""Flags that every command knows: help, threads, glog's, the original Poseidon's."""

from __future__ import annotations

from typing import Final

from poseidon_caffe.cli.flags import Flag

__all__ = ["COMMON", "legacy_flags"]

_GLOG_IDLE = "accepted for glog's sake; the log goes to stderr always"

COMMON: Final = (
    Flag("help", False, "show this text and exit"),
    Flag("version", False, "show the version and exit"),
    Flag("debug", False, "show the Python traceback of an error"),
    Flag("flagfile", "", "take flags from a file, one a line", value="FILE"),
    Flag(
        "minloglevel",
        -1,
        "log only this level and worse: 0 info, 1 warning, 2 error "
        "(default: $GLOG_minloglevel or 0)",
        value="N",
    ),
    Flag("log_dir", "", "write glog's log files there as well", value="DIR"),
    Flag("logtostderr", True, _GLOG_IDLE, hidden=True),
    Flag("alsologtostderr", True, _GLOG_IDLE, hidden=True),
    Flag("colorlogtostderr", False, _GLOG_IDLE, hidden=True),
    Flag("stderrthreshold", 0, _GLOG_IDLE, hidden=True),
    Flag("v", 0, _GLOG_IDLE, hidden=True),
)
"""In the order of ``--help``."""

_LEGACY: Final = (
    ("svb", True, "sufficient factors serve training on several workers"),
    ("svb_timeout_ms", 0, "factors are always waited for"),
    ("table_staleness", 0, "only training has workers that could be ahead"),
    ("num_rows_per_table", 0, "only training cuts parameters into rows"),
    ("num_table_threads", 0, "there are no table threads"),
    ("init_thread_access_table", False, "there are no table threads"),
    ("consistency_model", "", "--staleness alone decides"),
    ("hostfile", "", "name the hosts to mpirun"),
    ("client_id", 0, "mpirun numbers the ranks"),
    ("num_clients", 0, "mpirun sets the number of ranks"),
    ("net_outputs", "", "the log has the outputs"),
    ("stats_path", "", "the log has the times"),
)
"""The original Poseidon's flags: name, type by example, why it is idle here."""


def legacy_flags() -> tuple[Flag, ...]:
    """The original's flags: each is accepted and answered with one warning line."""
    return tuple(
        Flag(name, default, why, hidden=True, warning=f"has no effect here: {why}")
        for name, default, why in _LEGACY
    )
