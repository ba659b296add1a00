"""The work of ``poseidon device_query``: processor, memory, compute library."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Final

import numpy as np

from poseidon_caffe import __version__
from poseidon_caffe.backend.protocols import Ops
from poseidon_caffe.backend.select import get_ops
from poseidon_caffe.backend.threads import available_cores
from poseidon_caffe.cli.gpu_lines import gpu_rows
from poseidon_caffe.report import tags
from poseidon_caffe.report.glog import Glog

__all__ = ["describe", "instruction_sets", "processor_name"]

_FAMILIES: Final = (
    ("AMX", "amx_tile"),
    ("AVX-512 VNNI", "avx512_vnni"),
    ("AVX-512", "avx512f"),
    ("AVX2", "avx2"),
    ("FMA", "fma"),
    ("AVX", "avx"),
    ("SSE4.2", "sse4_2"),
    ("SVE", "sve"),
    ("NEON", "asimd"),
)


def describe(log: Glog, threads: int) -> int:
    """Log what this machine computes with; the exit code.

    Args:
        log: where to.
        threads: the number a training here would use.
    """
    cpuinfo = _read("/proc/cpuinfo")
    ops = get_ops("cpu", threads)
    sets = ", ".join(instruction_sets(cpuinfo)) or "unknown"
    rows = [
        ("Poseidon", f"{__version__}, Python {platform.python_version()}"),
        ("Device", "CPU"),
        ("Name", processor_name(cpuinfo)),
        ("Architecture", platform.machine()),
        ("Cores", f"{os.cpu_count()}, {available_cores()} for this process"),
        ("Threads", str(threads)),
        ("Instruction sets", sets),
        ("Memory", _memory(_read("/proc/meminfo"))),
        ("Compute library", _library(ops)),
        ("NumPy", np.__version__),
        *gpu_rows(),
    ]
    for name, value in rows:
        log.info(tags.DEVICE, f"{name + ':':<22}{value}")
    if ops.note:
        log.warning(tags.DEVICE, ops.note)
    return 0


def _library(ops: Ops) -> str:
    """Name, version and file of what computes."""
    found = getattr(ops, "dnnl", None)
    if found is None:
        return "NumPy"
    return f"oneDNN {'.'.join(map(str, found.version))} ({found.path})"


def processor_name(cpuinfo: str) -> str:
    """The model name in the text of ``/proc/cpuinfo``, or what Python knows."""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in {"model name", "Model"} and value.strip():
            return value.strip()
    return platform.processor() or "unknown"


def instruction_sets(cpuinfo: str) -> list[str]:
    """Vector instruction sets that matter here, the widest first."""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in {"flags", "Features"}:
            flags = set(value.split())
            return [name for name, flag in _FAMILIES if flag in flags]
    return []


def _memory(meminfo: str) -> str:
    """Total and available memory in the text of ``/proc/meminfo``."""
    found = {}
    for line in meminfo.splitlines():
        key, _, value = line.partition(":")
        if value.split():
            found[key] = int(value.split()[0]) / 1024**2  # from kB
    if "MemTotal" not in found:
        return "unknown"
    free = found.get("MemAvailable", 0.0)
    return f"{found['MemTotal']:.1f} GiB, {free:.1f} GiB available"


def _read(path: str) -> str:
    """Text of a file under /proc; nothing where there is no such thing."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""
